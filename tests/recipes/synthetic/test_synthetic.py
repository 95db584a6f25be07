"""The synthetic corpus: IEMOCAP's tree, the rules of its "emotions"."""

import json
import re
import wave
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
import synthetic
from synthetic import (
    CELLS,
    KEYWORDS,
    LABEL_WEIGHTS,
    SPEAKERS,
    STYLES,
    plan_turns,
    render,
    write_synthetic,
)

from qieemo_sb.corpora.iemocap import prepare_iemocap

MAIN = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
LINE = re.compile(
    r"^\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(Ses0\d[FM]_\w+)\t([a-z]{3})\t"
    r"\[\d\.\d{4}, \d\.\d{4}, \d\.\d{4}\]$"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "iemocap"
    return write_synthetic(root, seed=7, turns_per_speaker=12)


def evaluations(tree):
    """(dialog, start, end, turn, label) of every turn of the tree."""
    for path in sorted(tree.glob("Session?/dialog/EmoEvaluation/Ses*.txt")):
        for line in path.read_text("utf-8").splitlines():
            if match := LINE.match(line):
                start, end, turn, label = match.groups()
                yield path.stem, float(start), float(end), turn, label


def wav_path(tree, dialog, turn):
    folder = tree / f"Session{turn[4]}" / "sentences" / "wav"
    return folder / dialog / f"{turn}.wav"


def contents(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root): path.read_bytes() for path in files}


def mean_of(turns, value):
    return np.mean([getattr(turn, value) for turn in turns])


# The tree


def test_ten_speakers_of_twelve_turns(tree):
    turns = [turn for _, _, _, turn, _ in evaluations(tree)]
    assert len(set(turns)) == len(turns) == 120
    speakers = Counter((turn[:5], turn[-4]) for turn in turns)
    assert len(speakers) == 10
    assert set(speakers.values()) == {12}


def test_counts_are_those_of_the_json(tree):
    expected = json.loads((tree / "expected_counts.json").read_text("utf-8"))
    found = defaultdict(Counter)
    for _, _, _, turn, label in evaluations(tree):
        found[turn[4]][label] += 1
    assert expected == {"turns": {s: dict(c) for s, c in found.items()}}
    assert all(set(c) == set(LABEL_WEIGHTS) for c in found.values())
    assert set(found) == set("12345")


def test_every_turn_has_its_sound_and_its_words(tree):
    named = {wav_path(tree, d, t) for d, _, _, t, _ in evaluations(tree)}
    found = set(tree.glob("Session?/sentences/wav/Ses*/Ses*.wav"))
    assert named == found
    spoken = set()
    for path in tree.glob("Session?/dialog/transcriptions/Ses*.txt"):
        text = path.read_text("utf-8")
        spoken |= set(
            re.findall(r"^(Ses\w+) \[\d{3}\.\d{4}-\d{3}\.\d{4}\]: \w", text, 8)
        )
    assert spoken == {path.stem for path in found}


def test_sounds_are_16_khz_mono_pcm_and_as_long_as_the_line_says(tree):
    for dialog, start, end, turn, _ in evaluations(tree):
        with wave.open(str(wav_path(tree, dialog, turn))) as file:
            assert file.getparams()[:3] == (1, 2, 16_000)
            seconds = file.getnframes() / 16_000
        assert end - start == pytest.approx(seconds, abs=2e-4)
        assert 0.7 < seconds < 4.5


def test_sounds_are_loud_enough_and_not_clipped(tree):
    for dialog, _, _, turn, _ in evaluations(tree):
        with wave.open(str(wav_path(tree, dialog, turn))) as file:
            samples = np.frombuffer(file.readframes(10**6), "<i2")
        assert 500 < np.abs(samples.astype(int)).max() < 32_767


def test_turns_of_a_dialog_do_not_overlap(tree):
    by_dialog = defaultdict(list)
    for dialog, start, end, _, _ in evaluations(tree):
        by_dialog[dialog].append((start, end))
    for times in by_dialog.values():
        times.sort()
        pairs = zip(times, times[1:], strict=False)
        assert all(a[1] < b[0] for a, b in pairs)


def test_dialogs_are_improvised_and_scripted_and_some_end_in_a_letter(tree):
    dialogs = {dialog for dialog, *_ in evaluations(tree)}
    assert len(dialogs) == 20
    assert {"Ses03M_impro05a", "Ses05M_script01_1b"} <= dialogs
    assert {"Ses01F_impro01", "Ses01F_script01_1"} <= dialogs


def test_women_speak_in_the_mens_dialogs_too(tree):
    genders = defaultdict(set)
    for dialog, _, _, turn, _ in evaluations(tree):
        assert turn.startswith(dialog + "_")
        genders[dialog].add(turn[-4])
    assert all(found == {"F", "M"} for found in genders.values())


def test_the_tree_is_as_untidy_as_iemocap(tree):
    folder = tree / "Session3" / "dialog" / "EmoEvaluation"
    name = "Ses03M_impro05a.txt"
    lines = (folder / name).read_text("utf-8").splitlines()
    assert lines[0].startswith("% [START_TIME")
    assert "" in lines
    assert any(line.startswith("C-E2:\t") for line in lines)
    assert any(line.startswith("A-E3:\t") for line in lines)
    for kind in ("Attribute", "Categorical", "Self-evaluation"):
        assert len(list((folder / kind).glob("Ses03M_impro05a_*.txt"))) == 1
    words = folder.parent / "transcriptions" / name
    text = words.read_text("utf-8")
    assert sum(not line.startswith("Ses") for line in text.splitlines()) == 2
    for path in (folder / f"._{name}", words.with_name(f"._{name}")):
        with pytest.raises(UnicodeDecodeError):
            path.read_text("utf-8")
    assert list(tree.glob("Session3/sentences/wav/Ses03M_impro05a/._*.wav"))


def test_the_tree_says_that_it_is_synthetic(tree):
    assert "SYNTHETIC" in (tree / "README.txt").read_text("utf-8")
    record = json.loads((tree / "synthetic.json").read_text("utf-8"))
    assert record == {
        "synthetic": True,
        "seed": 7,
        "turns_per_speaker": 12,
        "carrier": "both",
    }


def test_our_own_reader_reads_it(tree, tmp_path):
    counts = tree / "expected_counts.json"
    prepare_iemocap(tree, tmp_path, fold=5, expected_counts=counts)
    test = json.loads((tmp_path / "test.json").read_text("utf-8"))
    expected = json.loads(counts.read_text("utf-8"))["turns"]["5"]
    assert Counter(item["emo"] for item in test.values()) == {
        "neu": expected["neu"],
        "hap": expected["hap"] + expected["exc"],
        "ang": expected["ang"],
        "sad": expected["sad"],
    }


# Writing it


def test_the_same_seed_gives_the_same_bytes(tree, tmp_path):
    again = write_synthetic(tmp_path / "x", seed=7, turns_per_speaker=12)
    assert contents(again) == contents(tree)


def test_a_finished_tree_is_left_alone(tree):
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    write_synthetic(tree, seed=7, turns_per_speaker=12)
    assert before == {p: p.stat().st_mtime_ns for p in tree.rglob("*")}


def test_other_options_are_refused(tree):
    with pytest.raises(FileExistsError, match="other options"):
        write_synthetic(tree, seed=8, turns_per_speaker=12)


def test_a_foreign_folder_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another"):
        write_synthetic(tmp_path)
    assert contents(tmp_path).popitem()[1] == b"mine"


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        write_synthetic(tmp_path / "file")


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(turn, seed):
        raise RuntimeError("no voice")

    monkeypatch.setattr(synthetic, "render", fail)
    with pytest.raises(RuntimeError, match="no voice"):
        write_synthetic(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_others_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(
        synthetic, "render", lambda turn, seed: np.zeros(16_000, np.int16)
    )
    (tmp_path / "empty").mkdir()
    synthetic.main([str(tmp_path / "empty"), "--turns-per-speaker", "11"])
    write_synthetic(tmp_path / "a" / "b", turns_per_speaker=11)
    assert (tmp_path / "empty" / "Session5").is_dir()
    assert (tmp_path / "a" / "b" / "Session1").is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "empty"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"carrier": "face"}, "carrier"),
        ({"turns_per_speaker": 10}, "11 to 4000"),
        ({"turns_per_speaker": 4_001}, "11 to 4000"),
        ({"seed": -1}, "seed"),
    ],
)
def test_an_option_outside_its_limits_is_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_synthetic(tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


# The plan


def test_the_default_corpus_is_660_turns_four_fifths_in_the_usual_classes():
    turns = plan_turns()
    assert len(turns) == 660
    share = sum(turn.label in MAIN for turn in turns) / 660
    assert share == pytest.approx(0.8, abs=0.05)
    counts = Counter(MAIN[t.label] for t in turns if t.label in MAIN)
    assert max(counts.values()) < 0.3 * sum(counts.values())


def test_sessions_differ_in_their_counts():
    counts = [
        Counter(turn.label for turn in plan_turns() if turn.session == session)
        for session in "12345"
    ]
    assert len({json.dumps(count) for count in counts}) == 5


def test_a_sentence_has_three_to_six_words_of_a_small_vocabulary():
    sentences = [turn.text.split() for turn in plan_turns()]
    assert {len(words) for words in sentences} == {3, 4, 5, 6}
    assert len({word for words in sentences for word in words}) == 30


def test_more_than_half_of_a_sentence_are_keywords():
    for turn in plan_turns():
        if turn.vocabulary in KEYWORDS:
            words = KEYWORDS[turn.vocabulary]
            sentence = turn.text.split()
            found = sum(word in words for word in sentence)
            assert found == {3: 2, 4: 3, 5: 3, 6: 4}[len(sentence)]


def test_no_keyword_means_two_things():
    words = [word for group in KEYWORDS.values() for word in group]
    assert len(set(words) | set(synthetic.FILLERS)) == 16 + 14


def test_in_both_no_pair_of_classes_shares_voice_and_words():
    cells = [CELLS["both"][label] for label in ("neu", "hap", "ang", "sad")]
    assert len(set(cells)) == 4
    assert Counter(style for style, _ in cells) == {"raised": 2, "lowered": 2}
    assert Counter(words for _, words in cells) == {"light": 2, "heavy": 2}


@pytest.mark.parametrize("column", [0, 1], ids=["voice", "words"])
def test_in_both_one_carrier_names_about_half(column):
    turns = [t for t in plan_turns() if t.label in MAIN]
    seen = defaultdict(Counter)
    for turn in turns:
        seen[CELLS["both"][turn.label][column]][MAIN[turn.label]] += 1
    right = sum(max(counts.values()) for counts in seen.values())
    assert 0.45 < right / len(turns) < 0.60


def test_in_voice_words_do_not_depend_on_the_label():
    found = defaultdict(Counter)
    for turn in plan_turns(turns_per_speaker=600, carrier="voice"):
        if turn.label in MAIN:
            found[MAIN[turn.label]].update(turn.text.split())
    shares = [
        {word: n / counts.total() for word, n in counts.items()}
        for counts in found.values()
    ]
    for one, other in combinations(shares, 2):
        assert one.keys() == other.keys()
        assert all(abs(one[word] - other[word]) < 0.02 for word in one)


def test_in_voice_the_four_classes_have_four_styles():
    cells = CELLS["voice"]
    assert len({cells[x][0] for x in ("neu", "hap", "ang", "sad")}) == 4


def test_in_words_the_voice_does_not_depend_on_the_label():
    turns = plan_turns(turns_per_speaker=600, carrier="words")
    assert {turn.style for turn in turns} == {"own"}
    of = defaultdict(list)
    for turn in turns:
        of[turn.label].append(turn)
    for label in ("hap", "ang", "sad"):
        for value, slack in (("rate", 1.5), ("pitch", 0.5), ("gain", 0.15)):
            expected = mean_of(of["neu"], value)
            assert mean_of(of[label], value) == pytest.approx(
                expected, abs=slack
            )


def test_in_words_the_four_classes_have_four_vocabularies():
    cells = CELLS["words"]
    assert len({cells[x][1] for x in ("neu", "hap", "ang", "sad")}) == 4


def test_a_style_is_relative_to_the_speaker():
    for speaker in SPEAKERS:
        raised = [
            turn
            for turn in plan_turns()
            if turn.style == "raised" and turn.voice == speaker.voice
        ]
        pitch = speaker.pitch + STYLES["raised"].pitch
        assert all(abs(turn.pitch - pitch) <= 3 for turn in raised)


@pytest.mark.parametrize("carrier", synthetic.CARRIERS)
def test_every_setting_stays_within_the_engines_limits(carrier):
    for turn in plan_turns(turns_per_speaker=600, carrier=carrier):
        assert 80 <= turn.rate <= 450
        assert 0 <= turn.pitch <= 99
        assert 0 <= turn.pitch_range <= 99


def test_all_labels_even_in_the_smallest_corpus():
    turns = plan_turns(turns_per_speaker=11)
    assert Counter(turn.label for turn in turns) == dict.fromkeys(
        LABEL_WEIGHTS, 10
    )


def test_a_seed_changes_the_words():
    one, other = (plan_turns(seed=seed) for seed in (1, 2))
    assert [t.text for t in one] != [t.text for t in other]


# The sound


def rms_db(samples):
    return 10 * np.log10(np.mean((samples / 32_768) ** 2))


def one_sentence_by(speaker, style="own"):
    change = STYLES[style]
    return synthetic.Turn(
        "Ses01F_impro01_F000",
        "neu",
        style,
        "any",
        "we saw the garden",
        speaker.voice,
        round(speaker.rate * change.rate),
        speaker.pitch + change.pitch,
        speaker.pitch_range + change.pitch_range,
        speaker.gain + change.gain,
    )


def test_ten_speakers_sound_different():
    spectra = []
    for speaker in SPEAKERS:
        samples = render(one_sentence_by(speaker)).astype(float)
        power = np.abs(np.fft.rfft(samples, 2**16)) ** 2
        bands = power[:16_384].reshape(64, 256).sum(1)  # 62.5 Hz each
        spectra.append(np.log(bands / bands.sum()))
    for one, other in combinations(spectra, 2):
        assert np.abs(one - other).mean() > 0.3


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda s: s.voice)
def test_raised_is_louder_and_faster_than_lowered(speaker):
    raised = render(one_sentence_by(speaker, "raised"))
    lowered = render(one_sentence_by(speaker, "lowered"))
    assert rms_db(raised) - rms_db(lowered) == pytest.approx(15, abs=1.5)
    assert 1.4 < len(lowered) / len(raised) < 2.0


def test_background_is_never_digital_silence():
    samples = render(one_sentence_by(SPEAKERS[0]))
    assert 0.5 < samples[:800].astype(float).std() < 10

"""Speech-text pairs by machines: the same each time, voices apart."""

import hashlib
import shutil
import stat
import sys

import flite
import numpy as np
import pytest
import soundfile
import spoken
from sentences import made_up, sentences_of
from spoken import HELD_OUT_VOICES, prepare_spoken

from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.errors import CorpusError

HOURS = 0.008  # nine utterances


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(spoken, "HELD_OUT", 4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spoken, "HELD_OUT", 4)
        prepare_spoken(folder, hours=HOURS, workers=1)
    return folder


def manifest(folder, split):
    return read_manifest(folder / f"{split}.json", ("wav", "length", "wrd"))


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*.flac"))
    }


def test_hours_say_how_many_utterances_train(corpus):
    assert len(manifest(corpus, "train")) == 9  # 0.008 h of 3.2 s each
    assert len(manifest(corpus, "valid")) == len(manifest(corpus, "test")) == 4


def test_audio_is_16_khz_and_as_long_as_the_manifest_says(corpus):
    for utterance in manifest(corpus, "train"):
        info = soundfile.info(corpus / utterance.wav)
        assert (info.samplerate, info.channels) == (16_000, 1)
        assert utterance.length == info.frames / 16_000


def test_it_is_speech_not_silence(corpus):
    for utterance in manifest(corpus, "train"):
        samples, _ = soundfile.read(corpus / utterance.wav)
        level = 20 * np.log10(np.sqrt(np.mean(samples**2)))
        assert -50 < level < -10 and np.abs(samples).max() <= 1


def test_voices_and_sentences_of_train_are_its_own(corpus):
    parts = {
        name: manifest(corpus, name) for name in ("train", "valid", "test")
    }
    voices = {
        name: {u.spk_id.partition("+")[2] for u in part}
        for name, part in parts.items()
    }
    held_out = set(HELD_OUT_VOICES["espeak"])
    assert not voices["train"] & held_out
    assert voices["valid"] | voices["test"] <= held_out
    said = {u.wrd for u in parts["train"]}
    assert not said & {u.wrd for u in parts["valid"] + parts["test"]}


def test_processes_do_not_matter_and_more_hours_add(corpus, tmp_path):
    prepare_spoken(tmp_path, hours=2 * HOURS, workers=2)
    more, fewer = digests(tmp_path), digests(corpus)
    assert len(more) == len(fewer) + 9
    assert fewer.items() <= more.items()


def test_what_is_there_is_kept_and_the_rest_is_said(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path, dirs_exist_ok=True)
    lost = tmp_path / "train/0000/train-0000003.flac"
    kept = tmp_path / "train/0000/train-0000004.flac"
    lost.unlink()
    (tmp_path / "prepare.json").unlink()  # as after a kill
    before = kept.stat().st_mtime_ns
    prepare_spoken(tmp_path, hours=HOURS, workers=1)
    assert digests(tmp_path) == digests(corpus)
    assert kept.stat().st_mtime_ns == before


def test_another_seed_says_something_else(corpus, tmp_path):
    prepare_spoken(tmp_path, hours=0.002, seed=1, workers=1)
    said = [u.wrd for u in manifest(tmp_path, "train")]
    assert said != [u.wrd for u in manifest(corpus, "train")][: len(said)]


def test_a_folder_of_other_speech_is_refused(corpus):
    with pytest.raises(CorpusError, match="has speech made with"):
        prepare_spoken(corpus, hours=HOURS, seed=1)


def test_a_text_of_ones_own_is_said(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"This is number {w}." for w in "abcdefghijkl"))
    prepare_spoken(tmp_path / "out", hours=0.004, text=text, workers=1)
    said = {u.wrd for u in manifest(tmp_path / "out", "train")}
    assert said <= {f"This is number {w}." for w in "abcdefghikl"}  # 10th: j
    held = {u.wrd for u in manifest(tmp_path / "out", "valid")}
    assert held == {"This is number j."}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hours": 0}, "hours is 0"),
        ({"synthesisers": []}, "it takes espeak and flite"),
        ({"synthesisers": ["festival"]}, "it takes espeak and flite"),
        ({"text": "no/such.txt"}, "no/such.txt cannot be read"),
    ],
)
def test_options_that_make_no_sense(options, message, tmp_path):
    with pytest.raises(CorpusError, match=message):
        prepare_spoken(tmp_path, **options)


def test_flite_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(flite, "PROGRAM", "no-such-program")
    with pytest.raises(CorpusError, match="apt install flite"):
        prepare_spoken(tmp_path, synthesisers=["espeak", "flite"])
    with pytest.raises(FileNotFoundError, match="apt install flite"):
        flite.speak("hello")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program that takes flite's arguments and writes a tone."""
    program = tmp_path / "flite-stand-in"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys, wave\n"
        "a = sys.argv[1:]\n"
        "settings = [a[i + 1] for i, x in enumerate(a) if x == '--setf']\n"
        "assert a[a.index('-voice') + 1] == 'slt', a\n"
        "if a[a.index('-t') + 1] == 'fail': sys.exit('it broke')\n"
        "with wave.open(a[a.index('-o') + 1], 'wb') as w:\n"
        "    w.setnchannels(1); w.setsampwidth(2); w.setframerate(8000)\n"
        "    w.writeframes(b'\\x00\\x40' * 10 * len(settings))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(flite, "PROGRAM", str(program))


def test_flite_is_called_with_voice_text_and_settings(stand_in):
    samples, rate = flite.speak("hello", "slt", stretch=1.1)
    assert rate == 8_000
    assert samples.tolist() == [0.5] * 30  # three settings


def test_a_failure_of_flite_is_told(stand_in):
    with pytest.raises(ValueError, match="'fail': it broke"):
        flite.speak("fail", "slt")


def test_a_voice_that_flite_lacks_is_told():
    with pytest.raises(ValueError, match="no voice 'bob'"):
        flite.speak("hello", "bob")


# -- Sentences -------------------------------------------------------------


def test_made_up_sentences_have_3_to_14_words_that_can_be_read():
    for seed in range(500):
        sentence = made_up(seed)
        assert 2 <= len(sentence.split()) <= 14
        assert sentence.replace(" ", "").replace("'", "").isalpha()
        assert not set(sentence.split()) & set("THING WHO PLACED".split())


def test_made_up_sentences_differ():
    assert len({made_up(seed) for seed in range(500)}) > 495


def test_statements_of_ravdess_are_never_made_up():
    tests = {"kids are talking by the door", "dogs are sitting by the door"}
    assert not tests & {made_up(seed) for seed in range(3_000)}


def test_sentences_of_a_text(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(
        "CHAPTER 1\n\nIt was a\ndark night. Rain fell; nobody came out--not "
        "even the dog. It was a dark night. Yes! In 1884 they moved away.",
        encoding="utf-8-sig",
    )
    assert sentences_of(path) == [
        "nobody came out",
        "not even the dog.",
        "It was a dark night.",
    ]


def test_a_text_without_sentences_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(CorpusError, match="no sentence of 3 to 14 words"):
        sentences_of(tmp_path / "a.txt")

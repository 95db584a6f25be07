"""Kaldi's folders, in miniature."""

import pytest

from qieemo_sb.corpora.kaldi import read_kaldi
from qieemo_sb.corpora.librispeech import prepare_pairs
from qieemo_sb.corpora.manifest import Utterance, read_manifest
from qieemo_sb.errors import CorpusError


def add_part(root, name, speakers, sound):
    """Two utterances of each speaker; women have even numbers."""
    folder = root / name
    folder.mkdir(parents=True)
    (root / "wav").mkdir(exist_ok=True)
    ids = [f"{speaker}-{n}" for speaker in speakers for n in (1, 2)]
    tables = {
        "text": [f"{x} THE WORDS  OF {x}" for x in ids],
        "utt2spk": [f"{x}\t{x[:2]}" for x in ids],
        "wav.scp": [f"{x} WAVE/{x}.WAV" for x in ids],
        "spk2gender": [f"{x} {'fm'[int(x) % 2]}" for x in speakers],
    }
    for table, lines in tables.items():
        (folder / table).write_text("\n".join(lines) + "\n")
    for x in ids:
        (root / "wav" / f"{x}.flac").write_bytes(sound)


@pytest.fixture
def tree(tmp_path, sound):
    root = tmp_path / "ocean"
    add_part(root, "train", [f"{n:02}" for n in range(1, 9)], sound)
    add_part(root, "test", ["20", "21"], sound)
    return root


def refusal(function, *args, **kwargs):
    with pytest.raises(CorpusError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_line_becomes_an_utterance(tree):
    assert read_kaldi(tree)["test"][1] == Utterance(
        utt_id="20-2",
        wav="wav/20-2.flac",
        wrd="THE WORDS  OF 20-2",
        spk_id="20",
        corpus="ocean",
        gender="F",
    )


def test_a_woman_and_a_man_validate_and_nobody_is_in_two_parts(tree):
    splits = read_kaldi(tree)
    found = {x: {u.spk_id for u in part} for x, part in splits.items()}
    assert [len(speakers) for speakers in found.values()] == [6, 2, 2]
    assert len(set.union(*found.values())) == 10
    assert sorted({u.gender for u in splits["valid"]}) == ["F", "M"]
    assert read_kaldi(tree) == splits


def test_audio_has_the_name_of_wav_scp_or_of_the_utterance(tree):
    """One is called otherwise, one is a command, one is not listed."""
    scp = tree / "test" / "wav.scp"
    edit(scp, "WAVE/20-1.WAV", "/elsewhere/a.wav")
    edit(scp, "20-2 WAVE/20-2.WAV\n", "20-2 sph2pipe /x/b.sph |\n")
    edit(scp, "21-1 WAVE/21-1.WAV\n", "")
    (tree / "wav/20-1.flac").rename(tree / "wav/a.flac")
    told = {u.utt_id: u.wav for u in read_kaldi(tree)["test"]}
    assert told == {
        "20-1": "wav/a.flac",
        "20-2": "wav/20-2.flac",
        "21-1": "wav/21-1.flac",
        "21-2": "wav/21-2.flac",
    }


def test_wav_scp_and_genders_may_be_missing(tree):
    for part in ("train", "test"):
        (tree / part / "wav.scp").unlink()
        (tree / part / "spk2gender").unlink()
    splits = read_kaldi(tree)
    assert [len(part) for part in splits.values()] == [14, 2, 4]
    assert splits["test"][0].gender == ""


def test_pairs_of_kaldi(tree, tmp_path):
    prepare_pairs("kaldi", tree, tmp_path / "out")
    train = read_manifest(tmp_path / "out" / "train.json", ("wrd", "length"))
    assert len(train) == 12


def test_all_that_is_wrong_is_named(tree):
    edit(tree / "test/text", "20-1 THE", "20-9 THE")
    assert refusal(read_kaldi, tree).splitlines() == [
        f"{tree / 'test'}: 2 utterances are not whole:",
        "  20-1 is not in text",
        "  20-9 is not in utt2spk",
    ]
    edit(tree / "test/text", "20-9 THE WORDS  OF 20-1", "20-1")
    assert refusal(read_kaldi, tree).splitlines() == [
        f"{tree / 'test' / 'text'}: 1 lines have no value:",
        "  20-1",
    ]


def test_missing_audio_is_named(tree):
    (tree / "wav/20-1.flac").unlink()
    assert refusal(read_kaldi, tree).splitlines() == [
        f"{tree}: 1 utterances of {tree / 'test'} lack audio:",
        "  20-1.wav is missing",
    ]


def test_stretches_of_recordings_are_refused(tree):
    (tree / "test/segments").write_text("20-1 recording 0.0 1.0\n")
    assert "stretches of long recordings" in refusal(read_kaldi, tree)


def test_a_folder_without_text_is_named(tree):
    (tree / "train/text").unlink()
    assert f"{tree / 'train' / 'text'} cannot be read" in refusal(
        read_kaldi, tree
    )

"""LibriSpeech's tree, and the pairs of every source."""

import json

import numpy as np
import pytest
import soundfile

from qieemo_sb.corpora.librispeech import prepare_pairs, read_librispeech
from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.errors import CorpusError


def add_chapter(root, part, speaker, texts):
    folder = root / part / str(speaker) / "7"
    folder.mkdir(parents=True)
    lines = []
    for number, text in enumerate(texts):
        utt_id = f"{speaker}-7-{number:04}"
        lines.append(f"{utt_id} {text}")
        soundfile.write(folder / f"{utt_id}.flac", np.ones(8_000) / 9, 16_000)
    (folder / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "LibriSpeech"
    add_chapter(root, "train-clean-100", 103, ["CHAPTER ONE", "MRS LYNDE"])
    add_chapter(root, "train-other-500", 20, ["A THIRD"])
    add_chapter(root, "dev-clean", 84, ["GO"])
    add_chapter(root, "test-clean", 61, ["HE'S NOT HERE"])
    return root


def test_parts_become_splits(tree):
    splits = read_librispeech(tree)
    assert {k: [u.utt_id for u in v] for k, v in splits.items()} == {
        "train": ["103-7-0000", "103-7-0001", "20-7-0000"],
        "valid": ["84-7-0000"],
        "test": ["61-7-0000"],
    }
    first = splits["train"][0]
    assert first.wrd == "CHAPTER ONE" and first.spk_id == "103"
    assert first.wav == "train-clean-100/103/7/103-7-0000.flac"


def test_a_missing_part_is_told(tmp_path, tree):
    with pytest.raises(CorpusError, match=f"should be {tree}"):
        read_librispeech(tmp_path)
    with pytest.raises(CorpusError, match="no folder train-"):
        read_librispeech(tree / "dev-clean")


def test_every_mismatch_is_listed(tree):
    folder = tree / "train-clean-100" / "103" / "7"
    (folder / "103-7-0000.flac").unlink()
    with open(folder / "103-7.trans.txt", "a") as fout:
        fout.write("not a transcript\n")
    (tree / "dev-clean" / "84" / "7" / "84-7.trans.txt").write_text("")
    with pytest.raises(CorpusError) as error:
        read_librispeech(tree)
    text = str(error.value)
    assert "3 problems" in text
    assert "103-7-0000 has no audio" in text
    assert "no transcript: 'not a transcript'" in text
    assert "84-7-0000.flac: no transcript" in text


def test_pairs_of_librispeech(tree, tmp_path):
    prepare_pairs("librispeech", tree, tmp_path / "out")
    train = read_manifest(tmp_path / "out" / "train.json", ("wrd",))
    assert [u.length for u in train] == [0.5] * 3


def test_pairs_of_manifests_keep_only_what_is_read(tmp_path):
    for name in ("train", "valid", "test"):
        entry = {"wav": f"{{data_root}}/{name}.wav", "length": 1.0}
        entry = {**entry, "wrd": "hi", "emo": "happy"}
        (tmp_path / f"{name}.json").write_text(json.dumps({name: entry}))
    prepare_pairs("manifests", tmp_path, tmp_path / "out")
    (only,) = read_manifest(tmp_path / "out" / "valid.json", ("wrd",))
    assert (only.utt_id, only.wrd, only.emo) == ("valid", "hi", "")


def test_a_manifest_without_transcripts_is_told(tmp_path):
    for name in ("train", "valid", "test"):
        entry = {"wav": "{data_root}/a.wav", "length": 1.0}
        (tmp_path / f"{name}.json").write_text(json.dumps({name: entry}))
    with pytest.raises(CorpusError, match="utterance train: 'wrd' is missing"):
        prepare_pairs("manifests", tmp_path, tmp_path / "out")


def test_an_unknown_corpus_is_told(tmp_path):
    with pytest.raises(CorpusError, match="'timit'; it must be one of iemocap"):
        prepare_pairs("timit", tmp_path, tmp_path)

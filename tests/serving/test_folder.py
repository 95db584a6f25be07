"""The file of labels, read without SpeechBrain."""

import pytest

from qieemo_sb.errors import ModelFolderError
from qieemo_sb.serving.folder import read_labels

NAMES = ["neutral", "it's", 'a "b"', "=", "a => b", "traurig, müde", "a\nb"]


def test_names_are_those_that_speechbrain_wrote(tmp_path, make_labels):
    path = tmp_path / "label_encoder.txt"
    make_labels(NAMES).save(path)
    assert read_labels(path, len(NAMES)) == NAMES


def test_order_is_that_of_the_outputs(tmp_path):
    path = tmp_path / "label_encoder.txt"
    path.write_text("'b' => 1\n'c' => 2\n'a' => 0\n=====\n'x' => 0\n")
    assert read_labels(path, 3) == ["a", "b", "c"]


def test_missing(tmp_path):
    with pytest.raises(ModelFolderError, match=r"gone.txt is missing"):
        read_labels(tmp_path / "gone.txt", 2)


@pytest.mark.parametrize(
    "contents",
    [b"'a' => 0\n'b", b"\xff\xfe\x00", b"a => 0\n", b"'a' => b\n", b"[] => 0"],
)
def test_damaged(tmp_path, contents):
    path = tmp_path / "labels.txt"
    path.write_bytes(contents)
    with pytest.raises(ModelFolderError, match=r"labels.txt is damaged"):
        read_labels(path, 1)


@pytest.mark.parametrize(
    "contents, count",
    [("", 0), ("'a' => 0\n", 1), ("'a' => 0\n'a' => 1\n", 1)],
)
def test_another_count(tmp_path, contents, count):
    path = tmp_path / "labels.txt"
    path.write_text(contents)
    with pytest.raises(ModelFolderError, match=f"has {count} names, the model"):
        read_labels(path, 2)


def test_output_without_a_name(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("'a' => 0\n'b' => 2\n")
    with pytest.raises(ModelFolderError, match="do not belong together"):
        read_labels(path, 2)

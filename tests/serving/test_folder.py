"""Files of a model folder: labels without SpeechBrain, written whole."""

import os
from pathlib import Path

import pytest

from qieemo_sb.errors import ModelFolderError
from qieemo_sb.serving.folder import read_labels, replacing_folder

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


# -- Writing a folder whole or not at all


def names(folder):
    return sorted(os.listdir(folder))


def test_folder_takes_the_place_of_another(tmp_path):
    folder = tmp_path / "a"
    with replacing_folder(folder) as unfinished:
        (unfinished / "old.txt").touch()
        assert not folder.exists()
    with replacing_folder(folder) as unfinished:
        (unfinished / "new.txt").touch()
        assert names(folder) == ["old.txt"]
    assert names(folder) == ["new.txt"]
    assert names(tmp_path) == ["a"]


def test_link_to_a_folder_stays_one(tmp_path):
    folder, link = tmp_path / "a", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    with replacing_folder(link) as unfinished:
        (unfinished / "new.txt").touch()
    assert link.is_symlink() and names(folder) == ["new.txt"]


@pytest.mark.parametrize("stuck", ["a", "a.unfinished"])
def test_old_folder_is_whole_if_it_cannot_be_replaced(
    tmp_path, monkeypatch, stuck
):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "old.txt").touch()
    move = Path.replace

    def refuse(path, target):
        if path.name == stuck:
            raise OSError(16, "Device or resource busy")
        return move(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="busy"), replacing_folder(folder) as new:
        (new / "new.txt").touch()
    assert names(tmp_path) == ["a"] and names(folder) == ["old.txt"]


def test_crash_leaves_the_old_folder_and_nothing_else(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as half:
        (half / "new.txt").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"]
    assert names(folder) == []

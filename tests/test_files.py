"""A file, or a folder, is there whole or not at all."""

import os

import pytest

from qieemo_sb.files import replacing, replacing_folder


def names(folder):
    return sorted(os.listdir(folder))


def test_file_and_its_folder_appear(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with replacing(path) as partial:
        partial.write_text("hello")
        assert not path.exists()
    assert path.read_text() == "hello"
    assert names(path.parent) == ["a.txt"]


def test_old_file_stays_until_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_crash_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_suffix_stays(tmp_path):
    with replacing(tmp_path / "a.npy") as partial:
        assert partial.suffix == ".npy"
        assert partial.parent == tmp_path
        partial.touch()


def test_two_writers_at_once_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as slow:
        slow.write_text("slow")
        with replacing(path) as fast:
            fast.write_text("fast")
        assert path.read_text() == "fast"
    assert path.read_text() == "slow"


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


def test_crash_leaves_the_old_folder_and_nothing_else(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as half:
        (half / "new.txt").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"]
    assert names(folder) == []

"""A file, or a folder, is there whole or not at all."""

import os
from pathlib import Path

import pytest

from qieemo_sb.corpora.files import replacing, replacing_folder


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

"""The prepare scripts of the recipes, as they are run by hand."""

import importlib.util
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


def load(path):
    spec = importlib.util.spec_from_file_location(
        Path(path).stem, RECIPES / path
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def iemocap_script():
    return load("IEMOCAP/qieemo/iemocap_prepare.py")


@pytest.fixture
def ravdess_script():
    return load("RAVDESS/qieemo/ravdess_prepare.py")


def test_script_writes_manifests_and_says_what_is_in_them(
    iemocap_script, iemocap, tmp_path, capsys
):
    status = iemocap_script.main(
        [
            *(str(iemocap.root), str(tmp_path / "out")),
            *("--protocol", "loso", "--fold", "5", "--labels", "4"),
            *("--expected-counts", str(iemocap.counts)),
        ]
    )
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "prepare.json",
        "test.json",
        "train.json",
        "valid.json",
    ]
    assert capsys.readouterr().out.splitlines()[0] == (
        "train: 90 utterances, 6 speakers, 0.00 hours; "
        "ang 18, hap 36, neu 18, sad 18"
    )


def test_wrong_corpus_is_told_without_a_traceback(
    iemocap_script, ravdess_script, tmp_path, capsys
):
    folders = [str(tmp_path), str(tmp_path / "out")]
    assert iemocap_script.main(folders) == 1
    assert "https://sail.usc.edu/iemocap/" in capsys.readouterr().err
    assert ravdess_script.main(folders) == 1
    assert "https://zenodo.org/" in capsys.readouterr().err


def test_output_folder_that_cannot_be_made(
    iemocap_script, iemocap, tmp_path, capsys
):
    blocked = tmp_path / "file"
    blocked.touch()
    counts = ["--expected-counts", str(iemocap.counts)]
    status = iemocap_script.main([str(iemocap.root), str(blocked), *counts])
    assert status == 1
    assert str(blocked) in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--prot", "--exp", "--se"])
def test_options_are_not_abbreviated(iemocap_script, option, capsys):
    with pytest.raises(SystemExit):
        iemocap_script.main(["data", "out", option, "1"])
    assert "unrecognized arguments" in capsys.readouterr().err

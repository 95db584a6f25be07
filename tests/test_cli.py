import pytest

from qieemo_sb.cli import main


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "predict" in capsys.readouterr().out


def test_a_folder_that_is_no_model_is_named(tmp_path, capsys):
    assert main(["predict", str(tmp_path), "a.wav"]) == 1
    assert str(tmp_path) in capsys.readouterr().err

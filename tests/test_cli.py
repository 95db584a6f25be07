import pytest

from qieemo_sb.bundle import save_bundle
from qieemo_sb.cli import main
from qieemo_sb.tokens.characters import Characters


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "predict" in capsys.readouterr().out


def test_a_folder_that_is_no_model_is_named(tmp_path, capsys):
    assert main(["predict", str(tmp_path), "a.wav"]) == 1
    assert str(tmp_path) in capsys.readouterr().err


@pytest.fixture
def reading(tmp_path, make_model, make_labels):
    """Folder of a classifier whose PPG has tokens."""
    folder = tmp_path / "model"
    return str(
        save_bundle(folder, make_model(), make_labels(), "", Characters())
    )


def test_a_file_is_drawn(reading, write_wav, sound, tmp_path):
    wav, image = write_wav(sound(16_000).numpy()), tmp_path / "a.png"
    assert main(["plot", reading, str(wav), str(image)]) == 0
    assert image.read_bytes()[1:4] == b"PNG"


def test_a_text_too_long_for_its_audio_is_told(
    reading, write_wav, sound, tmp_path, capsys
):
    wav = str(write_wav(sound(1_600).numpy()))
    text = ["--text", "much too long"]
    assert main(["plot", reading, wav, str(tmp_path / "a.png"), *text]) == 1
    assert (
        "need 13 frames to be aligned; there are 5" in capsys.readouterr().err
    )


def test_a_model_that_does_not_read_draws_nothing(bundle, capsys):
    assert main(["plot", str(bundle), "a.wav", "a.png"]) == 1
    assert "not trained to read" in capsys.readouterr().err

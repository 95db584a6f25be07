import os
import subprocess
import sys

import numpy as np
import pytest

from qieemo_sb.cli import main
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.serving.bundle import save_bundle
from qieemo_sb.serving.speechbrain import EncoderClassifier


@pytest.fixture
def wav(write_wav, sound):
    return write_wav(sound(16_000))


@pytest.fixture
def export(bundle, tmp_path):
    folder = tmp_path / "export"
    assert main(["export", "--format", "onnx", str(bundle), str(folder)]) == 0
    return folder


def without(names, *arguments):
    """Run a command in a process of its own; names of what it imported."""
    code = (
        "import sys; from qieemo_sb.cli import main; main(sys.argv[2:]);"
        "print(*(n for n in sys.argv[1].split() if n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, names, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "{predict,export,plot}" in capsys.readouterr().out


def test_a_folder_that_is_no_model_is_named(tmp_path, capsys):
    for command in (
        ["predict", str(tmp_path), "a.wav"],
        ["export", str(tmp_path), str(tmp_path / "new")],
    ):
        assert main(command) == 1
        assert str(tmp_path) in capsys.readouterr().err


def test_answer_of_a_bundle(bundle, wav, capsys):
    assert main(["predict", str(bundle), str(wav)]) == 0
    _, score, _, emotion = EncoderClassifier.from_hparams(bundle).classify_file(
        wav
    )
    expected = f"{wav}\t{emotion[0]}\t{score.exp().item():.4f}\n"
    assert capsys.readouterr().out == expected


def test_long_files_are_never_whole(
    bundle, write_wav, sound, capsys, monkeypatch
):
    wav = write_wav(sound(1_500_000))  # 93.75 s
    _, score, _, emotion = EncoderClassifier.from_hparams(bundle).classify_file(
        wav
    )
    for place in ("audio", "sound"):
        monkeypatch.setattr(f"qieemo_sb.{place}.decode", pytest.fail)
    assert main(["predict", str(bundle), str(wav)]) == 0
    expected = f"{wav}\t{emotion[0]}\t{score.exp().item():.4f}\n"
    assert capsys.readouterr().out == expected


def test_files_of_one_speaker(bundle, write_wav, sound, tmp_path, capsys):
    wavs = [write_wav(sound(8_000, i), name=f"{i}.wav") for i in range(3)]
    missing = tmp_path / "missing.wav"
    command = ["predict", "--same-speaker", str(bundle)]
    assert main([*command, *map(str, wavs), str(missing)]) == 1
    answers = EncoderClassifier.from_hparams(bundle).classify_conversation(
        wavs, ["one"] * 3
    )
    lines = [
        f"{wav}\t{emotion[0]}\t{score.exp().item():.4f}\n"
        for wav, (_, score, _, emotion) in zip(wavs, answers, strict=True)
    ]
    told = capsys.readouterr()
    assert told.out == "".join(lines)
    assert "missing.wav" in told.err


def test_an_export_does_not_adapt(export, wav, capsys):
    assert main(["predict", "--same-speaker", str(export), str(wav)]) == 1
    assert "cannot adapt" in capsys.readouterr().err


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_answer_of_an_export(bundle, export, write_wav, capsys, rate):
    wav = write_wav(np.random.default_rng(0).uniform(-1, 1, rate), rate)
    answers = []
    for model in (bundle, export):
        capsys.readouterr()
        assert main(["predict", str(model), str(wav)]) == 0
        path, emotion, probability = capsys.readouterr().out.split("\t")
        answers.append((path, emotion, float(probability)))
    assert answers[0][:2] == answers[1][:2]
    assert answers[0][2] == pytest.approx(answers[1][2], abs=2e-4)


def test_bad_file_does_not_stop_the_others(export, wav, tmp_path, capsys):
    gone = tmp_path / "gone.wav"
    assert main(["predict", str(export), str(gone), str(wav)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"{wav}\t")
    assert err == f"{gone} does not exist; check the path.\n"


@pytest.mark.parametrize("options", [[], ["--same-speaker"]])
def test_device_that_is_not_there(bundle, wav, capsys, options):
    for device in ("abacus", "meta"):
        arguments = ["--device", device, str(bundle), str(wav)]
        assert main(["predict", *options, *arguments]) == 1
        assert f"--device {device}: " in capsys.readouterr().err


def test_whoever_reads_may_have_heard_enough(export, wav):
    command = [sys.executable, "-m", "qieemo_sb.cli", "predict", str(export)]
    running = subprocess.Popen(
        [*command, *[str(wav)] * 20],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    running.stdout.close()
    _, said = running.communicate()
    assert (running.returncode, said) == (1, b"")


def test_mistyped_model_is_not_sought_on_a_hub(wav, capsys):
    for command in (
        ["predict", "--same-speaker", "some/model", str(wav)],
        ["plot", "some/model", str(wav), "a.png"],
    ):
        assert main(command) == 1
        assert "some/model is neither a folder" in capsys.readouterr().err


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere, names of files are text"
)
def test_name_that_is_no_text(export, wav):
    odd = os.fsencode(wav.parent) + b"/caf\xe9.wav"
    os.rename(wav, odd)
    code = "import sys; from qieemo_sb.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(export), odd],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert done.stdout.startswith(odd + b"\t")


def test_place_that_cannot_be_written(bundle, wav, capsys):
    assert main(["export", str(bundle), str(wav / "new")]) == 1
    assert str(wav / "new") in capsys.readouterr().err


def test_damaged_export_is_named(export, wav, capsys):
    (export / "model.onnx.data").unlink()
    assert main(["predict", str(export), str(wav)]) == 1
    assert "model.onnx is damaged" in capsys.readouterr().err


def test_export_says_where_it_is(bundle, tmp_path, capsys):
    folder = tmp_path / "new"
    assert main(["export", "--int8", str(bundle), str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    assert (folder / "README.md").read_text().startswith("# ONNX export, int8")


def test_other_formats_are_refused(bundle, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", "--format", "coreml", str(bundle), str(tmp_path)])
    assert "onnx" in capsys.readouterr().err


def test_export_without_onnx(bundle, tmp_path, monkeypatch, capsys):
    for name in [n for n in sys.modules if n.startswith("qieemo_sb.export")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(bundle), str(tmp_path / "new")]) == 1
    assert "pip install 'qieemo-sb[onnx]'" in capsys.readouterr().err


def test_export_answers_without_torch(export, wav):
    heavy = "torch speechbrain transformers scipy onnx"
    assert without(heavy, "predict", export, wav).endswith("\n\n")


def test_bundle_answers_without_what_it_does_not_need(bundle, wav):
    heavy = "speechbrain transformers scipy torchaudio matplotlib torch._dynamo"
    assert without(heavy, "predict", bundle, wav).endswith("\n\n")


def test_help_waits_for_nothing():
    code = (
        "import sys, qieemo_sb, qieemo_sb.cli;"
        "print(*({'numpy', 'torch', 'soundfile'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


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


@pytest.mark.parametrize("image", ["a.xyz", "a.wav/a.png"])
def test_picture_that_cannot_be_written(
    reading, write_wav, sound, tmp_path, capsys, image
):
    wav = write_wav(sound(16_000))
    assert main(["plot", str(reading), str(wav), str(tmp_path / image)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_text_too_long_for_its_audio_is_told(
    reading, write_wav, sound, tmp_path, capsys
):
    wav = str(write_wav(sound(1_600).numpy()))
    text = ["--text", "much too long"]
    assert main(["plot", reading, wav, str(tmp_path / "a.png"), *text]) == 1
    assert (
        "need 14 frames to be aligned; there are 5" in capsys.readouterr().err
    )


def test_a_model_that_does_not_read_draws_nothing(bundle, capsys):
    assert main(["plot", str(bundle), "a.wav", "a.png"]) == 1
    assert "not trained to read" in capsys.readouterr().err

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from qieemo_sb.cli import main
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.model import PPGModel
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.folder import save_model

LABELS = ["neu", "hap", "ang", "sad"]


@pytest.fixture
def wav(write_wav, sound):
    return write_wav(sound(16_000))


def line(prediction):
    """A line of ``qieemo predict``."""
    probability = prediction.scores[prediction.emotion]
    return f"{prediction.file}\t{prediction.emotion}\t{probability:.4f}\n"


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
    out = capsys.readouterr().out
    assert all(f"    {name} " in out for name in ("predict", "export", "plot"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "required: COMMAND (see qieemo --help)"),
        ("predict", "required: PATH (see qieemo predict --help)"),
        ("predict a.wav --modle x", "--modle is no option; did you mean --mod"),
        ("predict a.wav --format xml", "invalid choice: 'xml'"),
        ("info a b", "b is no option (see qieemo info --help)"),
    ],
)
def test_wrong_usage_is_one_line(capsys, command, message):
    with pytest.raises(SystemExit) as stop:
        main(command.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error and error.count("\n") == 1


def test_the_output_names_its_format(exported, wav, tmp_path, capsys):
    command = ["predict", str(wav), "--model", str(exported), "--output"]
    assert main([*command, str(tmp_path / "new/a.csv")]) == 0
    text = (tmp_path / "new/a.csv").read_text(encoding="utf-8")
    assert text.startswith("file,start,end")
    for path in (tmp_path, tmp_path / "new/a.csv/b"):
        assert main([*command, str(path)]) == 1
        error = capsys.readouterr().err
        assert f"{path} cannot be written (" in error
        assert error.endswith("name another file.\n")


def test_a_folder_that_is_no_model_is_named(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    for folder, message in (
        (str(tmp_path), "is a Hugging Face checkpoint (whisper)"),
        ("some/old/model", "There is no folder some/old/model"),
    ):
        for command in (
            ["predict", "--model", folder, "a.wav"],
            ["predict", "--same-speaker", "--model", folder, "a.wav"],
            ["export", folder, str(tmp_path / "new")],
            ["plot", folder, "a.wav", "a.png"],
        ):
            assert main(command) == 1
            error = capsys.readouterr().err
            assert message in error and error.count("\n") == 1


def test_a_model_predicts(model_folder, wav, write_wav, sound, capsys):
    wavs = [wav, write_wav(sound(700_000), name="43 s.wav")]
    assert main(["predict", "--model", str(model_folder), *map(str, wavs)]) == 0
    expected = load_model(model_folder)(wavs)
    assert capsys.readouterr().out == "".join(map(line, expected))


def test_unknown_below_the_threshold(model_folder, exported, wav, capsys):
    for model in (model_folder, exported):
        command = ["predict", str(wav), "--model", str(model)]
        command.append("--unknown-below")
        assert main([*command, "0"]) == 0
        path, emotion, probability = capsys.readouterr().out.split("\t")
        assert main([*command, "1"]) == 0
        printed = f"{path}\tunknown\t{probability}"
        assert capsys.readouterr().out == printed
        assert emotion != "unknown"
        assert main([*command, "50"]) == 1
        assert "threshold is 50" in capsys.readouterr().err


def test_files_of_one_speaker(model_folder, write_wav, sound, tmp_path, capsys):
    wavs = [write_wav(sound(8_000, i), name=f"{i}.wav") for i in range(3)]
    missing = tmp_path / "missing.wav"
    command = ["predict", "--same-speaker", "--model", str(model_folder)]
    assert main([*command, *map(str, wavs), str(missing)]) == 1
    out, err = capsys.readouterr()
    expected = load_model(model_folder).predict_conversation(wavs, ["x"] * 3)
    assert out == "".join(map(line, expected))
    assert "missing.wav" in err


def test_an_export_does_not_adapt(exported, wav, capsys):
    for option in (["--same-speaker"], ["--timeline", "json"]):
        command = ["predict", *option, "--model", str(exported), str(wav)]
        assert main(command) == 1
        assert f"cannot do {option[0]}:" in capsys.readouterr().err


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_export_predicts(source, exported, write_wav, capsys, rate):
    wav = write_wav(np.random.default_rng(0).uniform(-1, 1, rate), rate)
    answers = []
    for model in (source, exported):
        capsys.readouterr()
        assert main(["predict", "--model", str(model), str(wav)]) == 0
        path, emotion, probability = capsys.readouterr().out.split("\t")
        answers.append((path, emotion, float(probability)))
    assert answers[0][:2] == answers[1][:2]
    assert answers[0][2] == pytest.approx(answers[1][2], abs=2e-4)


def test_bad_file_does_not_stop_the_others(exported, wav, tmp_path, capsys):
    gone = tmp_path / "gone.wav"
    assert main(["predict", "--model", str(exported), str(gone), str(wav)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"{wav}\t")
    summary = "1 of 2 files failed, see above.\n"
    assert err == f"{gone} does not exist; check the path.\n{summary}"


@pytest.mark.parametrize("options", [[], ["--same-speaker"]])
def test_device_that_is_not_there(model_folder, wav, capsys, options):
    for device in ("abacus", "meta"):
        arguments = ["--device", device, "--model", str(model_folder)]
        assert main(["predict", *options, *arguments, str(wav)]) == 1
        message = f"The device {device} cannot be used here ("
        assert message in capsys.readouterr().err


def test_a_reader_of_the_results_may_go_away(exported, wav):
    command = [sys.executable, "-m", "qieemo_sb.cli", "predict"]
    command += ["--model", str(exported)]
    running = subprocess.Popen(
        [*command, "--format", "jsonl", str(wav)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    running.stdout.close()
    _, errors = running.communicate()
    assert (running.returncode, errors) == (1, b"")


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere, names of files are text"
)
def test_name_that_is_no_text(exported, wav):
    odd = os.fsencode(wav.parent) + b"/caf\xe9.wav"
    os.rename(wav, odd)
    code = "import sys; from qieemo_sb.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", "--model", exported, odd],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert done.stdout.startswith(odd + b"\t")


def test_notes_of_libraries_name_no_file_and_are_silent(
    exported, sound, tmp_path
):
    path, gone = tmp_path / "a.mp3", tmp_path / "gone.mp3"
    soundfile.write(path, sound(48_000), 16_000)
    damaged = bytearray(path.read_bytes())
    damaged[4_000:4_400] = bytes(400)
    path.write_bytes(damaged)
    code = f"import soundfile; soundfile.read('{path}')"
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert b"Note: " in alone.stderr
    command = [sys.executable, "-m", "qieemo_sb.cli", "predict", "--model"]
    done = subprocess.run(
        [*command, exported, path, gone], capture_output=True, text=True
    )
    assert done.stdout.startswith(f"{path}\t")
    assert done.stderr.splitlines() == [
        f"{gone} does not exist; check the path.",
        "1 of 2 files failed, see above.",
    ]


def test_place_that_cannot_be_written(model_folder, wav, capsys):
    assert main(["export", str(model_folder), str(wav / "new")]) == 1
    assert str(wav / "new") in capsys.readouterr().err


def test_damaged_export_is_named(exported, wav, tmp_path, capsys):
    export = shutil.copytree(exported, tmp_path / "export")
    (export / "model.onnx.data").unlink()
    assert main(["predict", "--model", str(export), str(wav)]) == 1
    assert "model.onnx.data is missing" in capsys.readouterr().err


def test_export_says_where_it_is(model_folder, tmp_path, capsys, monkeypatch):
    def write_graph(_model, folder, int8):
        (folder / "model.onnx").write_bytes(b"int8" if int8 else b"")

    module = "qieemo_sb.serving.onnx.export"
    monkeypatch.setattr(f"{module}.write_graph", write_graph)
    folder = tmp_path / "new"
    command = ["export", "--int8", str(model_folder)]
    assert main([*command, str(folder)]) == 0
    assert (folder / "model.onnx").read_bytes() == b"int8"
    assert capsys.readouterr().out == f"{folder}\n"
    assert (folder / "README.md").read_text().startswith("# ONNX export, int8")


def test_export_without_onnx(model_folder, tmp_path, monkeypatch, capsys):
    module = "qieemo_sb.serving.onnx.export"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(model_folder), str(tmp_path / "new")]) == 1
    assert "pip install 'qieemo-sb[onnx]'" in capsys.readouterr().err


def test_an_export_predicts_without_torch(exported, wav):
    heavy = "torch speechbrain transformers scipy onnx"
    assert without(heavy, "predict", "--model", exported, wav).endswith("\n\n")


def test_a_model_predicts_without_what_it_does_not_need(model_folder, wav):
    heavy = "speechbrain transformers scipy torchaudio matplotlib torch._dynamo"
    assert without(heavy, "predict", "--model", model_folder, wav).endswith(
        "\n\n"
    )


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
def transcribing(tmp_path, make_model):
    """Folder of a classifier whose PPG has tokens."""
    folder = tmp_path / "model"
    return str(save_model(folder, make_model(), "", LABELS, Characters()))


def test_a_file_is_drawn(transcribing, wav, tmp_path):
    image = tmp_path / "a.png"
    assert main(["plot", transcribing, str(wav), str(image)]) == 0
    assert image.read_bytes()[1:4] == b"PNG"


def test_a_file_is_drawn_by_a_model_of_stage_one(make_model, wav, tmp_path):
    whole, image = make_model(), tmp_path / "a.png"
    model = PPGModel(whole.encoder, whole.ppg_head)
    folder = save_model(tmp_path / "m", model, "", tokens=Characters())
    command = ["plot", str(folder), str(wav), str(image), "--text", "hello"]
    assert main(command) == 0
    assert image.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    "image, text, message",
    [
        ("a.xyz", "", "xyz"),
        ("a.wav/a.png", "", "a.wav"),
        ("a.png", "a" * 40, "need 79 frames to be aligned; there are 50"),
    ],
)
def test_a_picture_that_cannot_be_drawn(
    image, text, message, transcribing, wav, tmp_path, capsys
):
    command = ["plot", transcribing, str(wav), str(tmp_path / image)]
    assert main([*command, "--text", text]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_model_that_does_not_transcribe_draws_nothing(model_folder, capsys):
    assert main(["plot", str(model_folder), "a.wav", "a.png"]) == 1
    assert "not trained to transcribe" in capsys.readouterr().err


def test_a_folder_as_a_table_in_a_file(
    model_folder, write_wav, sound, tmp_path, monkeypatch
):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("-a.wav", "deep/b.wav"):
        write_wav(sound(16_000)).rename(folder / name)
    monkeypatch.chdir(folder)
    table = tmp_path / "out.csv"
    command = ["predict", "--model", str(model_folder), "--format", "csv"]
    command += ["--output", str(table), "--scores"]
    for paths in ([str(folder)], ["--", "-a.wav", "deep/*.wav"]):
        assert main([*command, *paths]) == 0
        header, *rows = table.read_text().splitlines()
        names = ["file", "start", "end", "speaker", "emotion", "score"]
        assert header.split(",") == [*names, *LABELS]
        found = [os.path.relpath(row.split(",")[0], folder) for row in rows]
        assert found == ["-a.wav", "deep/b.wav"]
        table.unlink()


def test_models_that_ship(capsys):
    assert main(["models"]) == 0
    name, folder = capsys.readouterr().out.rstrip().split("\t")
    assert (
        name == "open" and load_model(name).labels == load_model(folder).labels
    )
    assert main(["info"]) == 0
    assert "\n# Qieemo base\n" in capsys.readouterr().out
    assert main(["info", "opne"]) == 1
    assert "Did you mean open?" in capsys.readouterr().err

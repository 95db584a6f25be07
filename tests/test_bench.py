"""Each measurement runs and says what it promises; numbers are not judged."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import make_whisper
from transformers import WhisperFeatureExtractor

from qieemo_sb.serving.folder import save_model

pytestmark = pytest.mark.slow

BENCH = Path(__file__).parents[1] / "bench"
PEERS = ["qieemo-encoder", "speechbrain", "transformers"]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """Folder of a Whisper that is quick to run."""
    folder = tmp_path_factory.mktemp("whisper")
    model = make_whisper(d_model=16, encoder_layers=1, encoder_ffn_dim=32)
    model.save_pretrained(folder)
    WhisperFeatureExtractor(80).save_pretrained(folder)
    return folder


@pytest.fixture
def bench(monkeypatch):
    """Import a file of bench/ by its name."""
    monkeypatch.syspath_prepend(BENCH)
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    for path in BENCH.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def run(bench, whisper, tmp_path):
    """Run a measurement on two clips; what it says of them."""

    def run_bench(name, *options):
        path = tmp_path / "results.json"
        common = {
            "--whisper": whisper,
            "--clips": 2,
            "--repeats": 1,
            "--threads": 1,
            "--json": path,
        }
        arguments = [str(x) for pair in common.items() for x in pair]
        bench(name).main([*arguments, *options])
        written = json.loads(path.read_text())
        assert written["about"]["threads"] == 1
        return written["results"]

    return run_bench


def test_inference(run, capsys):
    names = ["qieemo", "qieemo-onnx-int8", *PEERS]
    results = run("inference", "--skip-memory", "--only", *names)
    assert list(results) == names
    for result in results.values():
        for batch in ("1", "16"):
            summary = result[batch]
            assert 0 < summary["least"] <= summary["median"] <= summary["most"]
    printed = capsys.readouterr().out
    assert "batch 16" in printed and "clips/s" in printed


def test_memory_of_a_contestant(bench, whisper, capsys):
    bench("inference").main(
        ["--whisper", str(whisper), "--clips", "2", "--memory-of", "qieemo"]
    )
    memory = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(memory) == ["loaded", "batch 1", "batch 16"]


def test_peers_that_are_not_installed_are_told(
    bench, whisper, capsys, monkeypatch
):
    for peer in ("ctranslate2", "openvino"):
        monkeypatch.setitem(sys.modules, peer, None)
    contestants = bench("contestants")
    names = [contestant.name for contestant in contestants.CONTESTANTS]
    names = [n for n in names if n.startswith(("ctranslate2", "openvino"))]
    assert contestants.enter(str(whisper), 1, names) == {}
    printed = capsys.readouterr().out
    assert all(f"{name} is left out" in printed for name in names)


def test_the_plain_encoder_is_whispers(bench, whisper, sound):
    contestants = bench("contestants")
    encoder = contestants.WhisperEncoder(source=str(whisper))
    plain = contestants.PlainEncoder(encoder)
    wav = sound(16_160)[None]
    encoded = encoder(wav, torch.tensor([16_160])).hidden_states
    expected = plain.head(encoded[encoder.n_blocks].mean(dim=1))
    found = plain(encoder.log_mel(wav, torch.tensor([16_160])))
    assert torch.allclose(found, expected, atol=1e-5)


def test_training(run):
    results = run("training")
    assert len(results) == 7
    assert all(summary["median"] > 0 for summary in results.values())


def test_limit(run):
    rates = run("limit")["rates"]
    assert list(rates)[:2] == ["MKL", "oneDNN"]
    assert len(rates) == 6


def test_operations_of_a_clip(bench):
    dims = {"n_mels": 2, "d_model": 3, "n_blocks": 5, "ffn_dim": 7}
    # 640 samples, 2 frames. Convolutions: 4 rows of 6 → 3, 2 of 9 → 3. A
    # block: 4 times 3 → 3, 3 → 7 → 3, and all frames with all, twice.
    convolutions = 2 * (4 * 6 * 3 + 2 * 9 * 3)
    block = 2 * 2 * (4 * 9 + 2 * 21) + 2 * 2 * (2 * 2 * 3)
    expected = convolutions + 5 * block
    assert bench("limit").operations(dims, 640) == expected


def test_growth(run):
    options = ["--seconds", "31", "1", "--batches", "2", "1"]
    results = run("growth", *options)
    assert list(results["length"]) == ["1.0", "31.0"]
    assert list(results["batch"]) == ["1", "2"]


def test_startup(run):
    results = run("startup")
    assert list(results)[-5:] == [
        "start to first answer",
        "command: import torch",
        "command: qieemo predict, model",
        "command: qieemo predict, export (float32)",
        "command: qieemo predict, export (int8)",
    ]
    assert results["command: qieemo predict, model"]["least"] > 0


def test_accuracy_of_exports(bench, make_variant, write_wav, sound, tmp_path):
    labels = ["neu", "hap", "ang", "sad"]
    save_model(tmp_path / "model", make_variant("baseline"), "", labels)
    for i in range(len(labels)):
        write_wav(sound(8_000, i), name=f"{i}.wav")
    entries = {
        str(i): {"wav": f"{{data_root}}/{i}.wav", "emo": label}
        for i, label in enumerate(labels)
    }
    (tmp_path / "test.json").write_text(json.dumps(entries))
    path = tmp_path / "results.json"
    arguments = [str(tmp_path), str(tmp_path), "--json", str(path)]
    bench("accuracy").main(arguments)
    results = json.loads(path.read_text())["results"]
    assert list(results) == ["torch", "float32", "int8"]
    assert results["torch"]["same_answers"] == 1
    assert results["float32"]["greatest_difference"] < 1e-4


def test_serving(bench, source, tmp_path):
    path = tmp_path / "results.json"
    options = {"--model": source, "--clips": 2, "--repeats": 1, "--threads": 1}
    options |= {"--requests": 3, "--long": 20, "--json": path}
    arguments = [str(x) for pair in options.items() for x in pair]
    bench("serving").main([*arguments, "--clients", "1", "3"])
    results = json.loads(path.read_text())["results"]
    for by_clients in results["load"].values():
        for found in by_clients.values():
            assert found["statuses"] == "200 x 3"
    assert results["answers"]["same_emotion"] == 2
    limits = {case: text[:3] for case, text in results["limits"].items()}
    assert limits.pop("64 at once") in ("200", "429")
    assert list(limits.values()) == "200 200 413 200 413 200 408".split()
    assert len(results["memory"]) == 11


# Clips


def test_lengths_are_those_of_iemocap(bench):
    lengths = bench("timing").iemocap_lengths(1_000)
    assert sum(lengths) / 1_000 == pytest.approx(4.55, abs=0.05)
    assert (lengths[499] + lengths[500]) / 2 == pytest.approx(3.58, abs=0.01)
    assert lengths[950] == pytest.approx(11.1, abs=0.2)
    assert max(lengths) <= 34.14


def test_clips_are_cut_from_files(bench, write_wav, sound):
    write_wav(sound(8_000, 1), name="a.wav")
    folder = write_wav(sound(9_000, 2), name="b.wav").parent
    clips = bench("timing").make_clips(2, folder, [1, 0.5])
    assert sorted(len(clip) for clip in clips) == [8_000, 16_000]
    again = bench("timing").make_clips(2, folder, [1, 0.5])
    assert all(torch.equal(a, b) for a, b in zip(clips, again, strict=True))


def test_streaming(bench, make_variant, tmp_path):
    path, labels = tmp_path / "results.json", ["neu", "hap", "ang", "sad"]
    save_model(tmp_path, make_variant("baseline"), "", labels)
    options = f"--model {tmp_path} --minutes 0.2 --cuts 1 --json {path}"
    bench("streaming").main(options.split())
    results = json.loads(path.read_text())["results"]
    assert list(results) == ["torch", "onnx", "onnx-int8"]
    for result in results.values():
        assert (
            0 < result["hour"]["delay_median"] <= result["hour"]["delay_most"]
        )
        assert max(result["difference"].values()) < 1e-4

"""Two processes train one model: torchrun with gloo, on the CPU."""

import csv
import json
import signal

import pytest
from runs import SYNTHETIC, TORCHRUN, demo, start, stop_in_epoch_two, train


def arguments(corpus, output, *options):
    return [
        *demo(corpus, output),
        "--distributed_backend=gloo",
        *options,
    ]


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """What an uninterrupted run printed, and its folder."""
    output = tmp_path_factory.mktemp("two") / "run"
    code, printed = train(
        SYNTHETIC, *arguments(corpus, output), launcher=TORCHRUN
    )
    assert code == 0, printed
    return printed, output


def test_everything_is_tested_and_written_once(run):
    printed, output = run
    test = json.loads((output / "test.json").read_text())
    with open(output / "predictions.csv", newline="") as file:
        tested = [row["utt_id"] for row in csv.DictReader(file)]
    assert sorted(tested) == sorted(test)
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["num_utterances"] == len(test)
    log = (output / "train_log.txt").read_text().splitlines()
    starts = [line.split(":")[0] for line in log]
    assert starts == ["epoch", "epoch", "best epoch"]
    assert printed.count("Saved an end-of-epoch checkpoint") == 2
    assert (output / "model/model.safetensors").exists()
    assert not list(output.rglob("*partial*"))


def test_a_stopped_run_ends_as_if_it_had_not_been(run, corpus, tmp_path):
    output = tmp_path / "stopped"
    options = arguments(corpus, output, "--ckpt_interval_steps=2")
    process = start(SYNTHETIC, *options, launcher=TORCHRUN)
    # torchrun hands it to its workers, which a SIGKILL would leave alone.
    stop_in_epoch_two(process, output, signal.SIGTERM)
    code, printed = train(SYNTHETIC, *options, launcher=TORCHRUN)
    assert code == 0, printed
    assert "Going into epoch 1" not in printed
    for name in ("metrics.json", "predictions.csv"):
        assert (output / name).read_text() == (run[1] / name).read_text()

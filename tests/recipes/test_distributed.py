"""Two processes train one model: torchrun with gloo, on the CPU."""

import csv
import json
from functools import partial

import pytest
from runs import IEMOCAP, TORCHRUN, TUNED, die, small, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def options(corpus, whisper):
    def make(output, *more):
        gloo = "--distributed_backend=gloo"
        return small(corpus, whisper, output, *TUNED, gloo, *more)

    return make


@pytest.fixture(scope="module")
def run(options, tmp_path_factory):
    """Everything that an uninterrupted run printed, and its folder."""
    output = tmp_path_factory.mktemp("two") / "run"
    code, printed = train(
        IEMOCAP, *options(output, "--num_workers=0"), torchrun=TORCHRUN
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


def test_a_stopped_run_ends_as_if_it_had_not_been(run, options, tmp_path):
    given = options(tmp_path, "--num_workers=0", "--ckpt_interval_steps=1")
    # Each worker kills itself before its second step of epoch 2.
    code, printed = train(
        IEMOCAP, *given, torchrun=TORCHRUN, before=partial(die, 2, 2)
    )
    assert code != 0 and not (tmp_path / "metrics.json").exists(), printed
    code, printed = train(IEMOCAP, *given, torchrun=TORCHRUN)
    assert code == 0, printed
    assert "Going into epoch 1" not in printed
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / name).read_text() == (run[1] / name).read_text()

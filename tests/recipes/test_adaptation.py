"""Training with adapt_speakers, from corpus to conversation."""

import csv
import json
import signal

import pytest
import torch
from runs import SYNTHETIC, demo, start, stop_in_epoch_two, train

from qieemo_sb import EncoderClassifier


def arguments(corpus, output):
    return [
        *demo(corpus, output),
        "--adapt_speakers=True",
        "--ckpt_interval_steps=2",
    ]


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """The output folder of an uninterrupted run."""
    output = tmp_path_factory.mktemp("adapted") / "run"
    code, printed = train(SYNTHETIC, *arguments(corpus, output))
    assert code == 0, printed
    return output


def read(path):
    return json.loads(path.read_text())


def test_accuracy_by_what_was_heard_before_is_told_and_drawn(run):
    metrics = read(run / "metrics.json")
    curve = metrics["adaptation"]
    assert len(curve["clips"]) == len(curve["weighted_accuracy"])
    assert all(0 <= value <= 1 for value in curve["weighted_accuracy"])
    # Of all four, each speaker is adapted to by all test clips.
    assert curve["emotions"] == [1, 2, 3, 4]
    whole = pytest.approx(metrics["weighted_accuracy"], abs=1e-6)
    assert curve["adapted"][-1] == whole
    assert curve["unadapted"][-1] == curve["weighted_accuracy"][0]
    assert (run / "adaptation.png").read_bytes()[1:4] == b"PNG"
    assert (
        "Each speaker was adapted to" in (run / "model/README.md").read_text()
    )


def test_the_bundle_answers_a_conversation_as_the_recipe_did(run, corpus):
    with open(run / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    said = [read(run / "test.json")[row["utt_id"]] for row in rows]
    wavs = [e["wav"].replace("{data_root}", str(corpus)) for e in said]
    classifier = EncoderClassifier.from_hparams(run / "model")
    assert classifier.mods.qieemo.speaker_model is not None
    answers = classifier.classify_conversation(
        wavs, [entry["spk_id"] for entry in said]
    )
    names = [f"log_prob_{label}" for label in classifier.labels]
    expected = torch.tensor([[float(row[n]) for n in names] for row in rows])
    found = torch.cat([answer[0] for answer in answers])
    assert (found - expected).abs().max() < 1e-3


def test_a_killed_run_ends_as_if_it_had_not_been(run, corpus, tmp_path):
    output = tmp_path / "killed"
    process = start(SYNTHETIC, *arguments(corpus, output))
    stop_in_epoch_two(process, output, signal.SIGKILL)
    code, printed = train(SYNTHETIC, *arguments(corpus, output))
    assert code == 0, printed
    for name in ("metrics.json", "predictions.csv"):
        assert (output / name).read_text() == (run / name).read_text()

"""The demo's recipe from corpus to answers, and what happens when it dies."""

import csv
import json
import shutil

import pytest
import torch
from runs import SYNTHETIC, demo, start, stop_in_epoch_two, train
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)

from qieemo_sb import EncoderClassifier
from qieemo_sb.audio import read_audio


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """The output folder of a short, uninterrupted run of the demo."""
    output = tmp_path_factory.mktemp("run") / "demo"
    code, printed = train(SYNTHETIC, *demo(corpus, output))
    assert code == 0, printed
    return output


def read(path):
    return json.loads(path.read_text())


def rows(run):
    with open(run / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def log_probs(run):
    names = [f"log_prob_{label}" for label in read_labels(run)]
    return torch.tensor([[float(r[n]) for n in names] for r in rows(run)])


def read_labels(run):
    return read(run / "metrics.json")["labels"]


def test_metrics_hold_what_the_contract_lists(run):
    metrics = read(run / "metrics.json")
    assert set(metrics) == {
        "weighted_accuracy",
        "unweighted_accuracy",
        "weighted_f1",
        "macro_f1",
        "num_utterances",
        "labels",
        "confusion_matrix",
        "corpus",
        "fold",
        "seed",
    }
    assert metrics["labels"] == ["neu", "hap", "ang", "sad"]
    assert (metrics["corpus"], metrics["fold"]) == ("synthetic", 5)


def test_predictions_and_metrics_agree(run):
    metrics, predictions = read(run / "metrics.json"), rows(run)
    right = sum(row["target"] == row["predicted"] for row in predictions)
    assert len(predictions) == metrics["num_utterances"]
    assert metrics["weighted_accuracy"] == pytest.approx(
        right / len(predictions), abs=1e-6
    )


def test_the_tested_session_was_not_trained_on(run):
    test, train_ = read(run / "test.json"), read(run / "train.json")
    assert {entry["session"] for entry in test.values()} == {5}
    assert 5 not in {entry["session"] for entry in train_.values()}
    assert {row["utt_id"] for row in rows(run)} == set(test)


def test_the_log_has_wa_and_ua_of_every_epoch_in_percent(run):
    lines = (run / "train_log.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[:2]] == [
        "epoch: 1",
        "epoch: 2",
    ]
    assert all(
        "valid WA: " in line and "valid UA: " in line for line in lines[:2]
    )
    shown = float(lines[-1].split("test WA: ")[1].split(",")[0])
    weighted_accuracy = read(run / "metrics.json")["weighted_accuracy"]
    assert shown == pytest.approx(100 * weighted_accuracy, abs=0.01)


@pytest.mark.parametrize(
    "kind", [EncoderClassifier, SpeechBrainEncoderClassifier]
)
def test_the_bundle_answers_as_the_recipe_did(run, corpus, kind):
    classifier = kind.from_hparams(str(run / "model"))
    for row, expected in list(zip(rows(run), log_probs(run), strict=True))[:5]:
        wav = read(run / "test.json")[row["utt_id"]]["wav"]
        wav = wav.replace("{data_root}", str(corpus))
        found, _, _, text_lab = classifier.classify_file(wav)
        assert (found[0] - expected).abs().max() < 1e-4
        assert text_lab == [row["predicted"]]


def test_an_answer_does_not_depend_on_batch_mates(run, corpus):
    classifier = EncoderClassifier.from_hparams(run / "model")
    wavs = [
        read_audio(entry["wav"].replace("{data_root}", str(corpus)))
        for entry in list(read(run / "test.json").values())[:8]
    ]
    batch = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    lengths = torch.tensor([len(wav) / batch.shape[1] for wav in wavs])
    together = classifier.classify_batch(batch, lengths)[0]
    for wav, found in zip(wavs, together, strict=True):
        alone = classifier.classify_batch(wav)[0][0]
        assert (alone - found).abs().max() < 1e-4


def test_a_finished_run_is_not_trained_again(run, corpus):
    before = (run / "metrics.json").read_text()
    code, printed = train(SYNTHETIC, *demo(corpus, run))
    assert code == 0, printed
    assert "Going into epoch" not in printed
    assert (run / "metrics.json").read_text() == before


def test_a_trial_leaves_what_a_run_measured(run, corpus, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    code, printed = train(SYNTHETIC, *demo(corpus, copy), "--debug")
    assert code == 0, printed
    for name in ("metrics.json", "predictions.csv", "model/model.safetensors"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()
        assert (copy / "debug" / name).exists()


def test_the_epoch_that_is_tested_is_told(run):
    lines = (run / "train_log.txt").read_text().splitlines()
    epochs = [line for line in lines if line.startswith("epoch: ")]
    reached = [float(line.split("valid UA: ")[1]) for line in epochs]
    # Of equals, the checkpointer keeps the later.
    best = max(range(len(reached)), key=lambda i: (reached[i], i)) + 1
    tests = [line for line in lines if "test WA: " in line]
    assert tests
    assert all(line.startswith(f"best epoch: {best} ") for line in tests)


@pytest.mark.parametrize("options", [[], ["--ckpt_interval_steps=2"]])
def test_a_killed_run_ends_as_if_it_had_not_been(
    run, corpus, tmp_path, options
):
    arguments = demo(corpus, tmp_path / "killed") + options
    stop_in_epoch_two(start(SYNTHETIC, *arguments), tmp_path / "killed")
    code, printed = train(SYNTHETIC, *arguments)
    assert code == 0, printed
    assert "Going into epoch 1" not in printed
    killed = tmp_path / "killed"
    assert read(killed / "metrics.json") == read(run / "metrics.json")
    assert torch.equal(log_probs(killed), log_probs(run))

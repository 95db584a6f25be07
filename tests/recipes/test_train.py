"""Training from corpus to predictions, and after it was killed."""

import csv
import json
import os
import shutil
from functools import partial

import pytest
import torch
from runs import IEMOCAP, TUNED, die, small, train
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)

from qieemo_sb import EncoderClassifier

pytestmark = pytest.mark.slow

METRICS = {
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
    "ece",
    "risk_coverage",
}


def read(path):
    return json.loads(path.read_text())


def rows(run):
    with open(run / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def log_probs(run):
    labels = read(run / "metrics.json")["labels"]
    names = [f"log_prob_{label}" for label in labels]
    return torch.tensor([[float(r[n]) for n in names] for r in rows(run)])


def wav_of(run, utt_id, corpus):
    wav = read(run / "test.json")[utt_id]["wav"]
    return wav.replace("{data_root}", str(corpus))


@pytest.fixture(scope="module")
def run(corpus, whisper, tmp_path_factory):
    """Folder of a run whose encoder trains, on emotions and transcripts."""
    output = tmp_path_factory.mktemp("run") / "tuned"
    options = small(corpus, whisper, output, *TUNED, "--num_workers=0")
    code, printed = train(IEMOCAP, *options)
    assert code == 0, printed
    return output


@pytest.fixture(scope="module")
def adapted(corpus, whisper, tmp_path_factory):
    """Folder of a run on cached frames, adapted to speakers."""
    output = tmp_path_factory.mktemp("run") / "adapted"
    options = small(corpus, whisper, output, "--adapt_to=speaker")
    code, printed = train(IEMOCAP, *options)
    assert code == 0, printed
    return output


def test_metrics_and_predictions_agree(run):
    metrics, predictions = read(run / "metrics.json"), rows(run)
    assert set(metrics) == METRICS
    assert metrics["labels"] == ["neu", "hap", "ang", "sad"]
    assert (metrics["corpus"], metrics["fold"]) == ("IEMOCAP", 5)
    right = sum(row["target"] == row["predicted"] for row in predictions)
    accuracy = right / len(predictions)
    assert len(predictions) == metrics["num_utterances"]
    assert metrics["weighted_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    for name in ("confusion.png", "risk_coverage.png"):
        assert (run / name).read_bytes()[1:4] == b"PNG"


def test_the_tested_session_was_not_trained_on(run):
    test, train_ = read(run / "test.json"), read(run / "train.json")
    assert {entry["session"] for entry in test.values()} == {5}
    assert 5 not in {entry["session"] for entry in train_.values()}
    assert {row["utt_id"] for row in rows(run)} == set(test)


def test_the_log_has_wa_and_ua_in_percent_and_the_epoch_that_is_tested(run):
    *epochs, test = (run / "train_log.txt").read_text().splitlines()
    names = [line.split(",")[0] for line in epochs]
    assert names == ["epoch: 1", "epoch: 2"]
    assert all("valid WA: " in line for line in epochs)
    reached = [float(line.split("valid UA: ")[1]) for line in epochs]
    # Of equals, the checkpointer keeps the later.
    best = max(range(len(reached)), key=lambda i: (reached[i], i)) + 1
    assert test.startswith(f"best epoch: {best} ")
    shown = float(test.split("test WA: ")[1].split(",")[0])
    accuracy = read(run / "metrics.json")["weighted_accuracy"]
    assert shown == pytest.approx(100 * accuracy, abs=0.01)


@pytest.mark.parametrize(
    "kind", [EncoderClassifier, SpeechBrainEncoderClassifier]
)
def test_the_model_folder_predicts_as_the_recipe_did(run, corpus, kind):
    classifier = kind.from_hparams(str(run / "model"))
    for row, expected in list(zip(rows(run), log_probs(run), strict=True))[:5]:
        wav = wav_of(run, row["utt_id"], corpus)
        found, _, _, text_lab = classifier.classify_file(wav)
        assert (found[0] - expected).abs().max() < 1e-4
        assert text_lab == [row["predicted"]]


def test_a_finished_run_is_not_trained_again_and_no_trial_replaces_it(
    run, corpus, whisper, tmp_path
):
    copy = shutil.copytree(run, tmp_path / "copy")
    options = small(corpus, whisper, copy, *TUNED, "--num_workers=0")
    code, printed = train(IEMOCAP, *options)
    assert code == 0, printed
    assert "Going into epoch" not in printed
    names = ("metrics.json", "predictions.csv", "model/model.safetensors")
    kept = {name: (copy / name).read_bytes() for name in names}
    code, printed = train(IEMOCAP, *options, "--debug")
    assert code == 0, printed
    for name in names:
        assert (copy / name).read_bytes() == kept[name]
        assert (copy / "debug" / name).exists()


def test_a_run_that_was_killed_in_an_epoch_ends_as_if_it_had_not_been(
    run, corpus, whisper, tmp_path
):
    options = small(
        corpus, whisper, tmp_path, *TUNED, "--ckpt_interval_steps=2"
    )
    code, _ = train(
        IEMOCAP, *options, "--num_workers=2", before=partial(die, 2, 3)
    )
    assert code < 0 and not (tmp_path / "metrics.json").exists()
    code, printed = train(IEMOCAP, *options, "--num_workers=0")
    assert code == 0, printed
    assert "Going into epoch 1" not in printed
    assert read(tmp_path / "metrics.json") == read(run / "metrics.json")
    assert torch.equal(log_probs(tmp_path), log_probs(run))


def test_so_does_one_on_cached_frames(adapted, corpus, whisper, tmp_path):
    options = small(corpus, whisper, tmp_path, "--adapt_to=speaker")
    code, _ = train(IEMOCAP, *options, before=partial(die, 2, 3))
    assert code < 0
    code, printed = train(IEMOCAP, *options)
    assert code == 0, printed
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / name).read_text() == (adapted / name).read_text()


def test_accuracy_by_what_came_before_of_a_speaker(adapted):
    metrics = read(adapted / "metrics.json")
    curve = metrics["adaptation"]
    assert len(curve["clips"]) == len(curve["weighted_accuracy"])
    # Of all four, each speaker is adapted to by all test clips.
    assert curve["emotions"] == [1, 2, 3, 4]
    accuracy = pytest.approx(metrics["weighted_accuracy"], abs=1e-6)
    assert curve["adapted"][-1] == accuracy
    assert curve["unadapted"][-1] == curve["weighted_accuracy"][0]
    assert (adapted / "adaptation.png").read_bytes()[1:4] == b"PNG"
    card = (adapted / "model/README.md").read_text()
    assert "Each speaker was adapted to" in card


def test_a_trained_model_is_calibrated_without_training(
    adapted, corpus, whisper, tmp_path
):
    copy = shutil.copytree(adapted, tmp_path / "copy")
    options = small(corpus, whisper, copy, "--adapt_to=speaker")
    code, printed = train(IEMOCAP, *options, "--calibrate=True")
    assert code == 0, printed
    assert "Going into epoch" not in printed
    fit = read(copy / "calibration.json")
    assert read(copy / "metrics.json")["calibration"] == fit
    logits = log_probs(adapted) / fit["temperature"]
    found = log_probs(copy)
    assert (found - logits.log_softmax(dim=1)).abs().max() < 1e-3
    assert "A temperature (" in (copy / "model/README.md").read_text()


def test_a_refitted_model_is_calibrated_on_speakers_it_had_not_heard(
    corpus, whisper, tmp_path
):
    options = ("--refit=True", "--calibrate=True")
    code, printed = train(IEMOCAP, *small(corpus, whisper, tmp_path, *options))
    assert code == 0, printed
    fit = read(tmp_path / "selection/calibration.json")
    assert read(tmp_path / "metrics.json")["calibration"] == fit
    assert not (tmp_path / "calibration.json").exists()
    assert not (tmp_path / "selection/metrics.json").exists()
    valid, trained = (
        read(tmp_path / path)
        for path in ("selection/valid.json", "save/train_valid.json")
    )
    assert valid.keys() < trained.keys()


def test_the_model_folder_predicts_a_conversation_as_the_recipe_did(
    adapted, corpus
):
    names = [row["utt_id"] for row in rows(adapted)]
    speakers = [read(adapted / "test.json")[name]["spk_id"] for name in names]
    classifier = EncoderClassifier.from_hparams(adapted / "model")
    assert classifier.mods.qieemo.speaker_model is not None
    results = classifier.classify_conversation(
        [wav_of(adapted, name, corpus) for name in names], speakers
    )
    found = torch.cat([result[0] for result in results])
    assert (found - log_probs(adapted)).abs().max() < 1e-3


def test_a_csv_has_its_own_labels_and_the_cache_serves_again(
    corpus, table, whisper, tmp_path
):
    """Labels may be numbers, and paths relative."""
    numbers = {"calm": 0, "upset": 1, "glad": 2}
    text = table.read_text()
    for label, number in numbers.items():
        text = text.replace(f",{label},", f",{number},")
    (tmp_path / "own.csv").write_text(text)
    options = [
        "hparams/manifest.yaml",
        f"--data_folder={os.path.relpath(corpus, IEMOCAP)}",
        f"--csv_file={tmp_path / 'own.csv'}",
        f"--whisper_source={whisper}",
        f"--cache_folder={tmp_path / 'cache'}",
        "--emotions=[0, 1, 2]",
        "--emotional_blocks=[1, 2]",
        "--number_of_epochs=1",
    ]
    caches, metrics = [], []
    for name in ("first", "again"):
        output = tmp_path / name
        code, printed = train(IEMOCAP, *options, f"--output_folder={output}")
        assert code == 0, printed
        metrics.append(read(output / "metrics.json"))
        entries = (tmp_path / "cache").glob("*/*.npy")
        caches.append({path: path.stat().st_mtime_ns for path in entries})
    assert metrics[0] == metrics[1]
    assert metrics[0]["labels"] == ["0", "1", "2"]
    assert caches[0] == caches[1]
    assert len(caches[0]) == text.count("\n") - 1
    speakers = [
        {entry["spk_id"] for entry in read(output / f"{split}.json").values()}
        for split in ("train", "valid", "test")
    ]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 10

"""A short training with a seed scores as it always has.

``python tests/golden/test_training.py`` prints ``training.json`` anew.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from checkpoints import make_whisper
from clips import RATE, noise, sentence
from runs import IEMOCAP, train

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).with_name("training.json")
GAINS = {"calm": 0.05, "glad": 0.3, "upset": 1.0}
SPEAKERS, TAKES = 10, 3


def write_corpus(folder):
    """Ten speakers, three labels that differ in loudness and noise."""
    with open(folder / "corpus.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "speaker"])
        for speaker in range(SPEAKERS):
            for i, (label, gain) in enumerate(GAINS.items()):
                for take in range(TAKES):
                    seed = 100 * speaker + 10 * i + take
                    speech = gain * sentence(RATE - 300 * speaker)
                    hiss = (i + 1) * noise(len(speech) / RATE, seed)
                    path = f"{speaker}_{label}_{take}.wav"
                    soundfile.write(folder / path, speech + hiss, RATE)
                    rows.writerow([path, label, f"s{speaker}"])
    return folder


def write_whisper(folder):
    """A small Whisper whose weights no release of a library can change."""
    model, draw = make_whisper(), np.random.default_rng(0)
    for _, weight in sorted(model.encoder.named_parameters()):
        values = draw.normal(scale=0.2, size=tuple(weight.shape))
        weight.data = torch.from_numpy(values).float()
    model.save_pretrained(folder)
    return folder


def measure(folder):
    """Train for two epochs → WA, UA, losses and some log-probabilities."""
    code, printed = train(
        IEMOCAP,
        "hparams/manifest.yaml",
        f"--data_folder={write_corpus(folder)}",
        f"--csv_file={folder / 'corpus.csv'}",
        f"--whisper_source={write_whisper(folder / 'whisper')}",
        f"--output_folder={folder / 'run'}",
        f"--cache_folder={folder / 'cache'}",
        f"--emotions={list(GAINS)}",
        "--emotional_blocks=[1, 2]",
        "--number_of_epochs=2",
        "--num_workers=0",
        "--noprogressbar",
    )
    assert code == 0, printed
    metrics = json.loads((folder / "run/metrics.json").read_text())
    with open(folder / "run/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [f"log_prob_{label}" for label in GAINS]
    return {
        "weighted_accuracy": metrics["weighted_accuracy"],
        "unweighted_accuracy": metrics["unweighted_accuracy"],
        "confusion_matrix": metrics["confusion_matrix"],
        "log_probs": [
            [round(float(row[column]), 4) for column in columns]
            for row in rows[:5]
        ],
    }


def test_metrics_stay(tmp_path):
    found, golden = measure(tmp_path), json.loads(GOLDEN.read_text())
    expected = golden.pop("log_probs")
    # Other processors sum in another order; ten steps on, this is left.
    np.testing.assert_allclose(found.pop("log_probs"), expected, atol=1e-3)
    assert found == golden


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(measure(Path(name)), indent=1))

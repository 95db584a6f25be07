"""The model that ships: there, small, licensed, and of use."""

from pathlib import Path

import numpy as np
import pytest
import torch
from espeak import ESPEAK_RATE, speak
from torchmetrics.functional.text import char_error_rate

from qieemo_sb import load_model
from qieemo_sb.audio import resample

FOLDER = Path(__file__).parents[2] / "pretrained/open"
EMOTIONS = "angry disgust fearful happy neutral sad"


@pytest.fixture(scope="module")
def classifier():
    return load_model(FOLDER)


def test_it_is_small_and_its_card_is_complete():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 45e6
    card = (FOLDER / "README.md").read_text()
    for text in (
        "license: odbl\n",
        "CREMA-D",
        "Open Database License",
        "| WA |",
        "## Limits",
        "noise",
    ):
        assert text in card


def test_its_yaml_is_todays():
    ours = Path(__file__).parents[2] / "hparams/hyperparams.yaml"
    assert (FOLDER / ours.name).read_text() == ours.read_text()


def test_it_knows_the_emotions_of_its_corpora(classifier):
    assert sorted(classifier.labels) == EMOTIONS.split()


def test_it_transcribes_what_a_machine_says(classifier):
    """A sentence and a voice that it has not learned from."""
    sentence = "the old farmer walked down to the river"
    samples = np.asarray(speak(sentence), np.float32) / 2**15
    wav = torch.from_numpy(resample(samples, ESPEAK_RATE))
    (text,), _ = classifier.transcribe_batch(wav)
    assert char_error_rate(text, sentence) < 0.5

"""The model that ships: there, small, licensed, and it answers."""

from pathlib import Path

import pytest
import torch
import torchaudio
from espeak import ESPEAK_RATE, speak
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)
from torchmetrics.functional.text import char_error_rate

from qieemo_sb import EncoderClassifier
from qieemo_sb.corpora.named import emotion_names

FOLDER = Path(__file__).parents[2] / "pretrained/qieemo-tiny.en"


@pytest.fixture(scope="module")
def classifier():
    return EncoderClassifier.from_hparams(FOLDER)


def test_it_is_small():
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    assert size < 20e6


def test_its_card_tells_data_licence_numbers_and_limits():
    card = (FOLDER / "README.md").read_text()
    for text in ("RAVDESS", "CC BY-NC-SA 4.0", "| WA |", "## Limits"):
        assert text in card


def test_it_knows_the_emotions_of_its_corpus(classifier):
    assert sorted(classifier.labels) == sorted(emotion_names("RAVDESS"))


def test_it_answers_as_speechbrains_class_does(classifier, sound, pad):
    theirs = SpeechBrainEncoderClassifier.from_hparams(source=str(FOLDER))
    batch = pad([sound(32_000, 1), sound(20_000, 2)])
    assert torch.equal(
        classifier.classify_batch(*batch)[0], theirs.classify_batch(*batch)[0]
    )


def test_it_reads_what_a_machine_says(classifier):
    """A sentence and a voice that it has not learned from."""
    said = "the old farmer walked down to the river"
    samples = torch.from_numpy(speak(said)).float() / 2**15
    sound = torchaudio.functional.resample(samples, ESPEAK_RATE, 16_000)
    (text,), _ = classifier.transcribe_batch(sound)
    assert char_error_rate(text, said) < 0.5

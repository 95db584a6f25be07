"""A small corpus and a small Whisper for the recipes."""

import csv

import pytest
from checkpoints import make_whisper
from tree import write_tree


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """80 turns in IEMOCAP's tree: enough for the machinery, not to learn."""
    return write_tree(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="session")
def whisper(tmp_path_factory):
    """A folder with a small untrained Whisper in Hugging Face format."""
    folder = tmp_path_factory.mktemp("whisper")
    make_whisper().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def table(corpus):
    """A CSV over the corpus with labels of its own."""
    labels = ["calm", "upset", "glad"]
    wavs = sorted(corpus.glob("Session*/sentences/wav/*/Ses*.wav"))
    path = corpus.parent / "corpus.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "speaker"])
        for i, wav in enumerate(wavs):
            speaker = wav.stem[:5] + wav.stem[-4]
            label = labels[i % len(labels)]
            writer.writerow([wav.relative_to(corpus), label, speaker])
    return path

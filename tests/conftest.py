"""A tiny Qieemo, and sounds to try it on."""

import copy
import random

import numpy as np
import pytest
import readme
import soundfile
import torch
from forks import spare_imports
from xdist.scheduler import LoadFileScheduling

from qieemo_sb.encoders.whisper import WhisperEncoder
from qieemo_sb.lobes.blocks import BlockMixer, WeightedSum
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.fusion import CMA, MMF, CMAFirst, Projection
from qieemo_sb.lobes.pooling import (
    AttentiveStatisticsPooling,
    AveragePooling,
    BlockStatistics,
    StatisticsPooling,
)
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.model import Qieemo
from qieemo_sb.serving.folder import save_model

LABELS = ["neu", "hap", "ang", "sad"]
D_MODEL, N_BLOCKS, WIDTH, N_TOKENS, N_CLASSES = 16, 3, 12, 29, 4


# Files that share something that takes long to make, and so a worker.
TOGETHER = {
    "tests/golden/test_answers.py": "shipped",
    "tests/test_readme.py": "shipped",
    "tests/test_cli.py": "exported",
    "tests/fuzz/test_fuzz.py": "exported",
    "tests/serving/onnx/test_classifier.py": "exported",
    "tests/serving/onnx/test_export.py": "exported",
}


class Scheduler(LoadFileScheduling):
    """Gives each file, and files that belong together, to one worker."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


def pytest_xdist_make_scheduler(config, log):
    return Scheduler(config, log)


def pytest_collection_modifyitems(items):
    """Begin with what is slow; the rest fills the gaps at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish():
    spare_imports()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Draw the same numbers in each run, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def sound():
    """Make a waveform [S]: noise whose loudness swells and falls."""

    def make(samples, seed=0, gain=0.1):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(samples, generator=generator)
        return gain * noise * torch.linspace(0, 12, samples).sin()

    return make


@pytest.fixture(scope="session")
def pad():
    """Make a batch: waveforms → [B, S] and lengths [B] in samples."""

    def make(signals):
        lengths = torch.tensor([len(s) for s in signals])
        wavs = torch.nn.utils.rnn.pad_sequence(signals, batch_first=True)
        return wavs, lengths

    return make


@pytest.fixture(scope="session")
def in_company(sound, pad):
    """Put a waveform first in a batch with seven longer and louder ones."""

    def make(signal):
        others = [
            sound(len(signal) + 3_001 * i, seed=i, gain=0.1 * i)
            for i in range(1, 8)
        ]
        return pad([signal, *others])

    return make


@pytest.fixture(scope="session")
def make_encoder():
    """Make a Whisper of three blocks with weights of its own."""

    def make(seed=0, **options):
        torch.manual_seed(seed)
        dims = {
            "n_mels": 80,
            "d_model": D_MODEL,
            "n_blocks": N_BLOCKS,
            "n_heads": 2,
            "ffn_dim": 32,
        }
        return WhisperEncoder(dims=dims, **options)

    return make


@pytest.fixture(scope="session")
def make_model(make_encoder):
    """Make a small Qieemo; each part can be replaced or left out."""

    def make(**parts):
        encoder = make_encoder()
        both = (N_TOKENS, D_MODEL, WIDTH)
        defaults = {
            "encoder": encoder,
            "mixer": BlockMixer(blocks=[1, 2], d_model=D_MODEL),
            "ppg_head": PPGHead(D_MODEL, N_TOKENS, hidden=8),
            "mmf": MMF(*both),
            "cma": CMA(*both, heads=2, ffn=16),
            "pooling": AttentiveStatisticsPooling(WIDTH, hidden=8),
            "classifier": Classifier(2 * WIDTH, N_CLASSES),
        }
        model = Qieemo(**{**defaults, **parts}).eval()
        # A new one is all zeros.
        torch.nn.init.normal_(model.classifier.linear.weight, std=0.3)
        return model

    return make


def cma_first():
    """MMF after CMA."""
    return {"mmf": CMAFirst(N_TOKENS, D_MODEL, WIDTH), "cma": None}


def baseline():
    """A linear probe: weighted sum, projection, average."""
    return {
        "mixer": WeightedSum([0, 3], D_MODEL),
        "ppg_head": None,
        "mmf": Projection(D_MODEL, WIDTH),
        "cma": None,
        "pooling": AveragePooling(WIDTH),
        "classifier": Classifier(WIDTH, N_CLASSES),
    }


def statistics():
    """Plain statistics of two blocks beside the pooled frames."""
    return {
        "pooling": StatisticsPooling(WIDTH),
        "block_statistics": BlockStatistics([0, 2], D_MODEL),
        "classifier": Classifier(2 * WIDTH + 4 * D_MODEL, N_CLASSES),
    }


# What can be left out of a Qieemo, or stand in its place, by name.
VARIANTS = {
    "whole": dict,
    "no-mmf": lambda: {"mmf": None},
    "no-cma": lambda: {"cma": None},
    "no-fusion": lambda: {"mmf": None, "cma": None},
    "ppg-alone": lambda: {"mixer": None, "mmf": None, "cma": None},
    "emotional-alone": lambda: {"ppg_head": None, "mmf": None, "cma": None},
    "cma-first": cma_first,
    "baseline": baseline,
    "statistics": statistics,
}


@pytest.fixture(scope="session")
def make_variant(make_model):
    """Make a Qieemo of one or several variants, with some other parts."""

    def make(*names, **others):
        torch.manual_seed(0)
        parts = {}
        for name in names:
            parts.update(VARIANTS[name]())
        return make_model(**{**parts, **others})

    return make


@pytest.fixture(scope="session")
def variants(make_variant):
    """A Qieemo of each variant, by name, for tests that do not change it."""
    return {name: make_variant(name) for name in VARIANTS}


@pytest.fixture(params=VARIANTS)
def variant_model(request, variants):
    """A copy of each variant in turn."""
    return copy.deepcopy(variants[request.param])


@pytest.fixture
def write_wav(tmp_path):
    """Write samples [S] or [S, channels] as an audio file."""

    def write(samples, rate=16_000, name="a.wav"):
        path = tmp_path / name
        soundfile.write(path, np.asarray(samples), rate, subtype="FLOAT")
        return path

    return write


@pytest.fixture
def model_folder(tmp_path, make_model):
    """Folder of a saved model."""
    folder = tmp_path / "model"
    return save_model(folder, make_model(), "# A card\n", LABELS)


@pytest.fixture(scope="session")
def stir():
    """Give a model weights that are far from their fresh values."""

    def change(model):
        torch.manual_seed(1)
        for name, value in model.state_dict().items():
            if name.endswith(("bias", "mean")):
                value.normal_(std=0.3)
            elif name.endswith("variance"):
                value.uniform_(0.5, 2.0)
            elif "norm" not in name and "positions" not in name:
                value.mul_(4.0)
        return model

    return change


@pytest.fixture(scope="session")
def source(make_model, stir, tmp_path_factory):
    """Folder of a model all of whose parts matter."""
    folder = tmp_path_factory.mktemp("source") / "model"
    return save_model(folder, stir(make_model()), "# A card\n", LABELS)


@pytest.fixture(scope="session")
def readme_run(tmp_path_factory):
    """The folder in which README.md's code was run, and what that printed."""
    folder = readme.write_files(tmp_path_factory.mktemp("readme"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, readme.run(readme.README)


@pytest.fixture(scope="session")
def exported(source, tmp_path_factory):
    """Its export, which no test may change."""
    from qieemo_sb.serving.onnx.export import export_onnx

    return export_onnx(source, tmp_path_factory.mktemp("exported") / "export")

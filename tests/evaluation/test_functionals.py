"""Functionals are computed once, with whatever computes them."""

import sys

import numpy as np
import pytest

from qieemo_sb.corpora.manifest import Utterance
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import probes
from qieemo_sb.evaluation.probes import functionals, score_fold, svm


@pytest.fixture
def wavs(write_wav, sound):
    return {n: write_wav(sound(800 * n, n), name=f"{n}.wav") for n in (1, 2)}


@pytest.fixture
def lengths(monkeypatch):
    """An extractor that says how many samples there are."""
    extractor = lambda samples: np.array([samples.size])  # noqa: E731
    monkeypatch.setattr(probes, "egemaps", lambda: extractor)


def test_every_file_has_its_own(wavs, tmp_path, lengths):
    found = functionals({**wavs, "1": wavs[1]}, tmp_path / "kept")
    assert found == {1: [800.0], 2: [1600.0], "1": [800.0]}


def test_what_is_kept_is_not_computed_again(
    wavs, tmp_path, lengths, monkeypatch
):
    first = functionals(wavs, tmp_path / "kept")
    monkeypatch.delattr(probes, "egemaps")
    again = functionals(wavs, tmp_path / "kept")
    assert again == first == {1: [800.0], 2: [1600.0]}


def test_the_machine_tells_classes_of_any_scale_apart():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3)) * [1.0, 1e3, 1e-3]
    x[::2, 2] += 1e-2
    part = [Utterance(i, "", 1.0, "ab"[i % 2]) for i in range(40)]
    found = score_fold(svm(), dict(enumerate(x)), (part, part), "ab")
    assert found["weighted_accuracy"] == 1.0


@pytest.mark.parametrize("module", ["opensmile", "sklearn.svm"])
def test_without_a_package_it_says_what_to_install(
    module, monkeypatch, wavs, tmp_path
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EvaluationError, match=r"'qieemo-sb\[bench\]'"):
        svm()
        functionals(wavs, tmp_path)

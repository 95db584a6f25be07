"""Functionals are computed once, with whatever computes them."""

import sys

import numpy as np
import pytest

from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation.functionals import egemaps, functionals, svm


@pytest.fixture
def wavs(write_wav, sound):
    return [write_wav(sound(800 * n, n), name=f"{n}.wav") for n in (1, 2)]


def lengths():
    """Makes an extractor that says how many samples there are."""
    return lambda samples: np.array([samples.size])


def never():
    pytest.fail("an extractor was made")


def test_every_file_has_its_own_in_the_order_of_the_files(wavs, tmp_path):
    found = functionals([*wavs, wavs[0]], tmp_path / "kept", lengths)
    assert [x.tolist() for x in found] == [[800.0], [1600.0], [800.0]]


def test_what_is_kept_is_not_computed_again(wavs, tmp_path):
    first = functionals(wavs, tmp_path / "kept", lengths)
    again = functionals(wavs, tmp_path / "kept", never)
    assert [x.tolist() for x in again] == [x.tolist() for x in first]


def test_the_machine_tells_classes_of_any_scale_apart():
    rng = np.random.default_rng(0)
    targets = np.arange(40) % 2
    x = rng.standard_normal((40, 3)) * [1.0, 1e3, 1e-3]
    x[:, 2] += 1e-2 * targets
    assert (svm(x, targets, x) == targets).all()


@pytest.mark.parametrize(
    "module, call",
    [
        ("opensmile", egemaps),
        ("sklearn.svm", lambda: svm(np.eye(2), np.arange(2), np.eye(2))),
    ],
)
def test_without_a_package_it_says_what_to_install(module, call, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EvaluationError, match=r"'qieemo-sb\[bench\]'"):
        call()

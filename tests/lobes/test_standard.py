"""Running mean and variance of channels."""

import pytest
import torch

from qieemo_sb.lobes.normalization import Moments, Standard


@pytest.fixture
def standard():
    return Standard(2, 3, memory=1000)


def test_fresh_it_changes_nothing(standard):
    x = torch.randn(4, 2, 3)
    assert torch.allclose(standard(x), x, rtol=1e-4)


def test_statistics_are_those_of_all_that_was_heard(standard):
    x = 5 + 3 * torch.randn(40, 2, 3)
    for part in x.split([1, 20, 12, 7]):
        standard.update(part)
    assert torch.allclose(standard.mean, x.mean(0), rtol=1e-4)
    assert torch.allclose(standard.variance, x.var(0, correction=0), rtol=1e-4)


def test_recent_vectors_replace_old_ones():
    standard = Standard(1, memory=20)
    for value in [100.0] * 10 + [0.0] * 40:
        standard.update(torch.full((7, 1), value))
    assert standard.count == 20
    assert standard.mean.abs() < 1e-3


def test_a_constant_channel_stays_finite(standard):
    standard.update(torch.ones(4, 2, 3))
    assert torch.equal(standard(torch.ones(2, 3)), torch.zeros(2, 3))


def test_statistics_are_no_parameters(standard):
    assert list(standard.parameters()) == []
    assert set(standard.state_dict()) == {"count", "mean", "variance"}


def test_moments_of_parts_merge_to_those_of_the_whole():
    x = 5 + 3 * torch.randn(40, 2, 3)
    merged = Moments.of(x[:3])
    for part in x[3:].split([1, 20, 16]):
        merged = merged.merge(Moments.of(part))
    assert merged.count == 40
    assert torch.allclose(merged.mean, x.mean(0), rtol=1e-4)
    assert torch.allclose(merged.variance, x.var(0, correction=0), rtol=1e-4)

"""Running mean and variance of channels, and dropout."""

import pytest
import torch

from qieemo_sb.lobes.normalization import Dropout, Moments, RunningMoments

SHAPE = (300, 1001)  # no multiple of eight


@pytest.fixture
def running():
    return RunningMoments(2, 3, memory=1000)


def test_fresh_it_changes_nothing(running):
    x = torch.randn(4, 2, 3)
    assert torch.allclose(running.moments.standardise(x), x, rtol=1e-4)


def test_statistics_are_those_of_all_vectors(running):
    x = 5 + 3 * torch.randn(40, 2, 3)
    for part in x.split([1, 20, 12, 7]):
        running.update(part)
    assert torch.allclose(running.mean, x.mean(0), rtol=1e-4)
    assert torch.allclose(running.variance, x.var(0, correction=0), rtol=1e-4)


def test_recent_vectors_replace_old_ones():
    running = RunningMoments(1, memory=20)
    for value in [100.0] * 10 + [0.0] * 40:
        running.update(torch.full((7, 1), value))
    assert running.count == 20
    assert running.mean.abs() < 1e-3


def test_a_constant_channel_stays_finite(running):
    running.update(torch.ones(4, 2, 3))
    standardised = running.moments.standardise(torch.ones(2, 3))
    assert torch.equal(standardised, torch.zeros(2, 3))


def test_statistics_are_buffers(running):
    assert list(running.parameters()) == []
    assert set(running.state_dict()) == {"count", "mean", "variance"}


def test_moments_of_parts_merge_to_those_of_the_whole():
    x = 5 + 3 * torch.randn(40, 2, 3)
    merged = Moments.of(x[:3])
    for part in x[3:].split([1, 20, 16]):
        merged = merged.merge(Moments.of(part))
    assert merged.count == 40
    assert torch.allclose(merged.mean, x.mean(0), rtol=1e-4)
    assert torch.allclose(merged.variance, x.var(0, correction=0), rtol=1e-4)


def test_moments_can_be_saved(tmp_path):
    moments = Moments.of(torch.randn(4, 3))
    torch.save(moments, tmp_path / "moments.pt")
    again = torch.load(tmp_path / "moments.pt", weights_only=True)
    assert isinstance(again, Moments) and torch.equal(again.mean, moments.mean)


# Dropout


@pytest.mark.parametrize("p, level", [(0.1, 26), (0.3, 77), (0.5, 128)])
def test_drops_its_share_and_keeps_the_mean(p, level):
    x = Dropout(p)(torch.ones(SHAPE))
    share = (x == 0).double().mean().item()
    # Five standard errors of 300 300 draws.
    assert share == pytest.approx(level / 256, abs=5 * 0.5 / 300_300**0.5)
    kept = x[x != 0].unique()
    assert kept.tolist() == pytest.approx([256 / (256 - level)])


def test_every_element_is_dropped_independently():
    dropped = Dropout(0.5)(torch.ones(4000, 16)) == 0
    together = dropped.double().T @ dropped.double() / 4000
    expected = torch.full((16, 16), 0.25).fill_diagonal_(0.5)
    assert (together - expected).abs().max() < 5 * 0.5 / 4000**0.5


def test_gradient_is_that_of_kept_elements():
    x = torch.randn(SHAPE, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, 2.0 * (y != 0))


def test_a_seed_gives_the_same_again():
    drop, x = Dropout(0.3), torch.randn(SHAPE)
    torch.manual_seed(7)
    once, other = drop(x), drop(x)
    torch.manual_seed(7)
    assert torch.equal(drop(x), once) and not torch.equal(other, once)


@pytest.mark.parametrize("p, kept", [(0.0, 1.0), (0.3, None), (1.0, 0.0)])
def test_ends_are_exact_and_evaluation_drops_nothing(p, kept):
    x = torch.randn(3, 5)
    assert torch.equal(Dropout(p).eval()(x), x)
    if kept is not None:
        assert Dropout(p)(torch.ones(SHAPE)).unique().tolist() == [kept]


@pytest.mark.parametrize("shape", [(), (0, 4), (1,)])
def test_any_shape(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape

"""Dropout at a byte of chance a number."""

import pytest
import torch

from qieemo_sb.lobes.normalization import Dropout

SHAPE = (300, 1001)  # no multiple of eight


@pytest.mark.parametrize("p, level", [(0.1, 26), (0.3, 77), (0.5, 128)])
def test_drops_its_share_and_keeps_the_mean(p, level):
    torch.manual_seed(0)
    x = Dropout(p)(torch.ones(SHAPE))
    share = (x == 0).double().mean().item()
    # Five standard errors of 300 300 draws.
    assert share == pytest.approx(level / 256, abs=5 * 0.5 / 300_300**0.5)
    kept = x[x != 0].unique()
    assert kept.tolist() == pytest.approx([256 / (256 - level)])


def test_every_place_is_dropped_by_itself():
    torch.manual_seed(0)
    dropped = Dropout(0.5)(torch.ones(4000, 16)) == 0
    together = dropped.double().T @ dropped.double() / 4000
    expected = torch.full((16, 16), 0.25).fill_diagonal_(0.5)
    assert (together - expected).abs().max() < 5 * 0.5 / 4000**0.5


def test_gradient_is_that_of_what_was_kept():
    x = torch.randn(SHAPE, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, 2.0 * (y != 0))


def test_a_seed_gives_the_same_again():
    drop, x = Dropout(0.3), torch.randn(SHAPE)
    torch.manual_seed(7)
    once = drop(x)
    other = drop(x)
    torch.manual_seed(7)
    assert torch.equal(drop(x), once) and not torch.equal(other, once)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_nothing_happens_in_use(p):
    x = torch.randn(3, 5)
    assert torch.equal(Dropout(p).eval()(x), x)


@pytest.mark.parametrize("p, expected", [(0.0, 1.0), (1.0, 0.0)])
def test_ends_are_exact(p, expected):
    assert Dropout(p)(torch.ones(SHAPE)).unique().tolist() == [expected]


@pytest.mark.parametrize("shape", [(), (0, 4), (1,)])
def test_any_shape(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape

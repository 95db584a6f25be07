"""Tokens of every frame."""

import pytest
import torch

from qieemo_sb.lobes.ppg import PPGHead

LENGTHS = torch.tensor([7, 3])


@pytest.fixture
def head():
    torch.manual_seed(0)
    return PPGHead(d_model=8, n_tokens=5, hidden=6).eval()


def test_rows_are_distributions(head):
    ppg = head(10 * torch.randn(2, 7, 8), LENGTHS)
    assert ppg.shape == (2, 7, 5)
    assert torch.allclose(ppg.exp().sum(-1), torch.ones(2, 7))


def test_last_layer_alone_decides():
    head = PPGHead(d_model=8, n_tokens=4).eval()
    head.layers[-1].weight.data.zero_()
    head.layers[-1].bias.data = torch.tensor([1.0, 2.0, 3.0, 4.0]).log()
    ppg = head(torch.randn(1, 2, 8), torch.tensor([2]))
    expected = torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(1, 2, 4)
    assert torch.allclose(ppg.exp(), expected)


def test_frames_stand_alone(head):
    x = torch.randn(2, 7, 8)
    alone = head(x[1:, 2:3], torch.tensor([1]))
    assert torch.allclose(head(x, LENGTHS)[1:, 2:3], alone, atol=1e-6)


def test_scale_of_the_block_does_not_matter(head):
    x = torch.randn(2, 7, 8)
    assert torch.allclose(head(x, LENGTHS), head(300 * x, LENGTHS), atol=1e-4)


def test_every_parameter_learns(head):
    head(torch.randn(2, 7, 8), LENGTHS)[..., 0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())

"""Tokens of every frame."""

import pytest
import torch

from qieemo_sb.errors import QieemoError
from qieemo_sb.lobes.ppg import (
    Neighbours,
    PPGHead,
    PretrainedPPGHead,
    align,
    greedy,
)

LENGTHS = torch.tensor([7, 3])


@pytest.fixture
def head():
    return PPGHead(d_model=8, n_tokens=5, hidden=6).eval()


def test_rows_are_distributions(head):
    for kind in (head, PretrainedPPGHead(d_model=8, n_tokens=5)):
        ppg = kind(10 * torch.randn(2, 7, 8), LENGTHS)
        assert ppg.shape == (2, 7, 5)
        assert torch.allclose(ppg.exp().sum(-1), torch.ones(2, 7))


def test_last_layer_alone_decides():
    head = PPGHead(d_model=8, n_tokens=4).eval()
    head.outward.weight.data.zero_()
    head.outward.bias.data = torch.tensor([1.0, 2.0, 3.0, 4.0]).log()
    ppg = head(torch.randn(1, 2, 8), torch.tensor([2]))
    expected = torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(1, 2, 4)
    assert torch.allclose(ppg.exp(), expected)


@pytest.mark.parametrize("context, reach", [(1, 0), (3, 2), (5, 4)])
def test_two_layers_reach_twice_half_the_context(context, reach):
    head = PPGHead(8, 5, hidden=6, context=context).eval()
    x = torch.randn(1, 21, 8)
    changed = x.clone()
    changed[0, 10] = torch.randn(8)
    size = torch.tensor([21])
    difference = (head(x, size) - head(changed, size)).abs().amax(dim=(0, 2))
    touched = difference.nonzero().flatten().tolist()
    assert touched == list(range(10 - reach, 11 + reach))


def test_neighbours_are_what_a_convolution_sees():
    layer = Neighbours(width=4, context=3)
    x = torch.randn(1, 6, 4)
    weight = layer.linear.weight.view(4, 4, 3)  # [out, in, frame]
    expected = torch.nn.functional.conv1d(
        torch.nn.functional.gelu(layer.norm(x)).transpose(1, 2),
        weight,
        layer.linear.bias,
        padding=1,
    )
    got = layer(x[0], [6])
    assert torch.allclose(got, expected[0].T, atol=1e-6)


def test_batch_mates_and_frames_past_the_end_do_not_matter(head):
    x = torch.randn(2, 7, 8)
    alone = head(x[1:, :3], torch.tensor([3]))
    loud = x.clone()
    loud[1, 3:] = 1e4
    assert torch.allclose(head(loud, LENGTHS)[1, :3], alone[0], atol=1e-6)


def test_an_even_context_is_refused():
    with pytest.raises(QieemoError, match="context 4 must be odd"):
        PPGHead(8, 5, context=4)


@pytest.mark.parametrize(
    "head",
    [PPGHead(8, 5, hidden=6, dropout=0.9).freeze(), PretrainedPPGHead(8, 5)],
)
def test_a_frozen_head_neither_learns_nor_drops(head):
    x = torch.randn(1, 7, 8, requires_grad=True)
    first, second = (head.train()(x, torch.tensor([7])) for _ in range(2))
    assert torch.equal(first, second)
    first[..., 0].sum().backward()
    assert x.grad.abs().sum() > 0  # the encoder below may learn
    assert head.frozen and all(p.grad is None for p in head.parameters())


def test_greedy_path():
    path = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0], [3, 3, 3, 3, 0, 0, 1, 2]])
    ppg = torch.nn.functional.one_hot(path).float().log()
    best = greedy(ppg, torch.tensor([8, 6]))
    assert best == [[1, 1, 2], [3]]


def test_a_path_of_blanks_is_empty():
    assert greedy(torch.tensor([[[1.0, 0.0]] * 3]), torch.tensor([3])) == [[]]


def test_scale_of_the_block_does_not_matter(head):
    x = torch.randn(2, 7, 8)
    assert torch.allclose(head(x, LENGTHS), head(300 * x, LENGTHS), atol=1e-4)


def test_every_parameter_learns(head):
    head(torch.randn(2, 7, 8), LENGTHS)[..., 0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


# Alignment


def rows(*frames):
    return torch.tensor(frames).log()


def test_tokens_are_aligned_with_their_frames():
    path = [0, 1, 1, 0, 2]  # each with a posterior of 0.8
    ppg = rows(*[[0.8 if v == k else 0.1 for v in range(3)] for k in path])
    assert [span[:3] for span in align(ppg, [1, 2])] == [(1, 1, 3), (2, 4, 5)]
    assert [span[3] for span in align(ppg, [1, 2])] == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize(
    "tokens, needed", [([], 0), ([1, 1], 3), ([1] * 9, 17)]
)
def test_tokens_that_cannot_be_aligned(tokens, needed):
    with pytest.raises(QieemoError, match=f"need {needed} frames"):
        align(rows([0.5, 0.5], [0.5, 0.5]), tokens)

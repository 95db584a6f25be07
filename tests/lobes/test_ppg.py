"""Tokens of every frame."""

import pytest
import torch

from qieemo_sb.lobes.ppg import Neighbours, PPGHead, align, greedy

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
    head.outward.weight.data.zero_()
    head.outward.bias.data = torch.tensor([1.0, 2.0, 3.0, 4.0]).log()
    ppg = head(torch.randn(1, 2, 8), torch.tensor([2]))
    expected = torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(1, 2, 4)
    assert torch.allclose(ppg.exp(), expected)


@pytest.mark.parametrize("context, reach", [(1, 0), (3, 2), (5, 4)])
def test_two_layers_reach_twice_half_the_context(context, reach):
    torch.manual_seed(0)
    head = PPGHead(8, 5, hidden=6, context=context).eval()
    x = torch.randn(1, 21, 8)
    changed = x.clone()
    changed[0, 10] = torch.randn(8)
    size = torch.tensor([21])
    difference = (head(x, size) - head(changed, size)).abs().amax(dim=(0, 2))
    touched = difference.nonzero().flatten().tolist()
    assert touched == list(range(10 - reach, 11 + reach))


def test_neighbours_are_what_a_convolution_sees():
    torch.manual_seed(0)
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


def test_company_and_what_lies_past_the_end_do_not_matter(head):
    x = torch.randn(2, 7, 8)
    alone = head(x[1:, :3], torch.tensor([3]))
    loud = x.clone()
    loud[1, 3:] = 1e4
    assert torch.allclose(head(loud, LENGTHS)[1, :3], alone[0], atol=1e-6)


def test_an_even_context_is_refused():
    with pytest.raises(ValueError, match="context 4 must be odd"):
        PPGHead(8, 5, context=4)


def test_a_frozen_head_neither_learns_nor_drops():
    head = PPGHead(8, 5, hidden=6, dropout=0.9).freeze().train()
    x = torch.randn(1, 7, 8, requires_grad=True)
    first, second = (head(x, torch.tensor([7])) for _ in range(2))
    assert torch.equal(first, second)
    assert not any(p.requires_grad for p in head.parameters())


def test_greedy_path():
    path = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0], [3, 3, 3, 3, 0, 0, 1, 2]])
    ppg = torch.nn.functional.one_hot(path).float().log()
    best = greedy(ppg, torch.tensor([8, 6]))
    assert best == [[1, 1, 2], [3]]


def test_a_path_of_blanks_says_nothing():
    assert greedy(torch.tensor([[[1.0, 0.0]] * 3]), torch.tensor([3])) == [[]]


def test_scale_of_the_block_does_not_matter(head):
    x = torch.randn(2, 7, 8)
    assert torch.allclose(head(x, LENGTHS), head(300 * x, LENGTHS), atol=1e-4)


def test_every_parameter_learns(head):
    head(torch.randn(2, 7, 8), LENGTHS)[..., 0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


# -- Alignment ---------------------------------------------------------------


def rows(*frames):
    return torch.tensor(frames).log()


def test_tokens_are_found_where_they_are_said():
    # Blank, 1, 1, blank, 2: each row says its token with 0.8.
    said = [0, 1, 1, 0, 2]
    ppg = rows(*[[0.8 if v == s else 0.1 for v in range(3)] for s in said])
    assert [span[:3] for span in align(ppg, [1, 2])] == [(1, 1, 3), (2, 4, 5)]
    assert [span[3] for span in align(ppg, [1, 2])] == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize(
    "tokens, needed", [([], 0), ([1, 1], 3), ([1] * 9, 17)]
)
def test_what_cannot_be_aligned_is_told(tokens, needed):
    with pytest.raises(ValueError, match=f"need {needed} frames"):
        align(rows([0.5, 0.5], [0.5, 0.5]), tokens)

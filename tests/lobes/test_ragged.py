"""Packed batches equal utterances taken one by one."""

import pytest
import torch
from torch.nn.functional import multi_head_attention_forward

from qieemo_sb.frames import frame_mask
from qieemo_sb.lobes.ragged import pack, packed_attention, unpack


def test_real_frames_are_put_one_after_the_other():
    x = torch.arange(6.0).view(2, 3, 1)
    assert pack(x, [3, 1]).flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("lengths", [[3, 1], [3, 3], [1, 1]])
def test_unpacking_gives_back_frames_and_zeros(lengths):
    x = torch.randn(2, 3, 5)
    mask = frame_mask(torch.tensor(lengths), 3)
    expected = x.masked_fill(~mask.unsqueeze(-1), 0.0)
    assert torch.equal(unpack(pack(x, lengths), lengths, 3), expected)


def test_gradients_reach_real_frames_alone():
    x = torch.randn(2, 3, 5, requires_grad=True)
    unpack(2 * pack(x, [3, 1]), [3, 1], 4).sum().backward()
    expected = 2.0 * frame_mask(torch.tensor([3, 1]), 3).unsqueeze(-1)
    assert torch.equal(x.grad, expected.expand(2, 3, 5))


def test_uniform_attention_averages_the_values():
    zeros = torch.zeros(5, 2)
    values = torch.tensor([[0.0, 2.0], [2.0, 4.0], [1.0, 0], [4.0, 0], [7, 6]])
    attended = packed_attention(zeros, zeros, values, [2, 3], heads=1)
    assert attended.tolist() == [[1, 3]] * 2 + [[4, 2]] * 3


@pytest.mark.parametrize("lengths", [[2, 5, 1], [4, 4]])
def test_equals_torch_on_each_utterance(lengths):
    queries, keys, values = torch.randn(3, sum(lengths), 6)
    attended = packed_attention(queries, keys, values, lengths, heads=3)
    split = (x.split(lengths) for x in (queries, keys, values))
    # With identity projections torch's function is attention and no more.
    eye = torch.eye(6)
    expected = [
        multi_head_attention_forward(
            *(x.unsqueeze(1) for x in piece),
            embed_dim_to_check=6,
            num_heads=3,
            in_proj_weight=torch.cat([eye] * 3),
            in_proj_bias=None,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=eye,
            out_proj_bias=None,
        )[0].squeeze(1)
        for piece in zip(*split, strict=True)
    ]
    assert torch.allclose(attended, torch.cat(expected), atol=1e-6)


def test_scale_replaces_the_default():
    x = torch.randn(4, 6)
    scaled = packed_attention(x * 2**-0.5, x, x, [4], heads=3, scale=1.0)
    assert torch.allclose(scaled, packed_attention(x, x, x, [4], 3), atol=1e-6)


def test_utterances_do_not_see_each_other():
    x = torch.randn(5, 4)
    other = x.clone()
    other[2:] = 100.0
    first = packed_attention(x, x, x, [2, 3], heads=2)[:2]
    assert torch.equal(
        first, packed_attention(other, other, other, [2, 3], 2)[:2]
    )

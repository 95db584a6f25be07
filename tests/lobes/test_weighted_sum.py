"""Blocks as they are, weighed."""

import pytest
import torch

from qieemo_sb.lobes.blocks import WeightedSum

LENGTHS = torch.tensor([3, 1])


def test_weights_are_a_softmax():
    mixer = WeightedSum(blocks=[1, 4], d_model=2)
    mixer.logits.data = torch.tensor([0.0, torch.tensor(3.0).log()])
    hidden = {1: torch.full((2, 3, 2), 8.0), 4: torch.full((2, 3, 2), 4.0)}
    # Weights 1/4 and 3/4.
    assert torch.allclose(mixer(hidden, LENGTHS), torch.tensor(5.0))


def test_one_block_is_that_block():
    mixer = WeightedSum(blocks=[2], d_model=4)
    block = torch.randn(2, 3, 4)
    assert torch.equal(mixer({2: block}, LENGTHS), block)


@pytest.mark.parametrize("blocks", [[], [1, 1]])
def test_blocks_must_be_distinct(blocks):
    with pytest.raises(ValueError, match="distinct blocks"):
        WeightedSum(blocks, d_model=4)


def test_every_block_learns():
    mixer = WeightedSum(blocks=[0, 1, 2], d_model=4)
    hidden = {k: torch.randn(2, 3, 4) for k in range(3)}
    mixer(hidden, LENGTHS).sum().backward()
    assert (mixer.logits.grad != 0).all()

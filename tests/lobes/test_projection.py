"""A linear layer and nothing else."""

import torch

from qieemo_sb.lobes.fusion import Projection
from qieemo_sb.lobes.pooling import AveragePooling

LENGTHS = torch.tensor([7, 3])


def test_it_is_linear_in_the_features():
    projection, x = Projection(d_model=8, width=6), torch.randn(2, 7, 8)
    zero = projection(None, torch.zeros(2, 7, 8), LENGTHS)
    once = projection(None, x, LENGTHS) - zero
    twice = projection(None, 2 * x, LENGTHS) - zero
    assert once.shape == (2, 7, 6)
    assert torch.allclose(twice, 2 * once, atol=1e-5)


def test_projected_then_averaged_is_averaged_then_projected():
    projection, x = Projection(d_model=8, width=6), torch.randn(2, 7, 8)
    after = AveragePooling(6)(projection(None, x, LENGTHS), LENGTHS)
    before = projection.linear(AveragePooling(8)(x, LENGTHS))
    assert torch.allclose(after, before, atol=1e-5)

"""The plain join."""

import pytest
import torch
from torch.nn.functional import layer_norm

from qieemo_sb.lobes.fusion import Concatenation

LENGTHS = torch.tensor([7, 3])


@pytest.fixture
def streams():
    torch.manual_seed(0)
    return torch.randn(2, 7, 5).log_softmax(-1), torch.randn(2, 7, 8)


def test_posteriors_then_features(streams):
    join = Concatenation(n_tokens=5, d_model=8, width=13).eval()
    torch.nn.init.eye_(join.linear.weight)
    torch.nn.init.zeros_(join.linear.bias)
    ppg, emotional = streams
    expected = layer_norm(torch.cat([ppg.exp(), emotional], -1), (13,))
    joined = join(ppg, emotional, LENGTHS)
    assert torch.allclose(joined, expected, atol=1e-5)


@pytest.mark.parametrize("n_tokens, d_model", [(5, 0), (0, 8)])
def test_one_stream_alone(streams, n_tokens, d_model):
    join = Concatenation(n_tokens, d_model, width=6).eval()
    ppg, emotional = streams
    joined = join(
        ppg if n_tokens else None, emotional if d_model else None, LENGTHS
    )
    assert joined.shape == (2, 7, 6)
    assert torch.isfinite(joined).all()


def test_frames_stand_alone(streams):
    join = Concatenation(5, 8, width=6).eval()
    part = [x[1:, 2:3] for x in streams]
    whole = join(*streams, LENGTHS)[1:, 2:3]
    assert torch.allclose(join(*part, torch.tensor([1])), whole, atol=1e-6)


def test_every_parameter_learns(streams):
    join = Concatenation(5, 8, width=6).eval()
    join(*streams, LENGTHS)[..., 0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in join.parameters())

"""A gate between what is said and how."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import gelu

from qieemo_sb.lobes.fusion import MMF

LENGTHS = torch.tensor([7, 3])


@pytest.fixture
def mmf():
    torch.manual_seed(0)
    return MMF(n_tokens=5, d_model=8, width=6).eval()


@pytest.fixture
def streams():
    torch.manual_seed(1)
    return torch.randn(2, 7, 5).log_softmax(-1), torch.randn(2, 7, 8)


def paths(mmf, ppg, emotional):
    """The two streams before the gate."""
    return (
        mmf.ppg_norm(mmf.from_ppg(ppg.exp())),
        mmf.emotional_norm(mmf.from_emotional(emotional)),
    )


def test_shape(mmf, streams):
    assert mmf(*streams, LENGTHS).shape == (2, 7, 6)


@pytest.mark.parametrize("bias, path", [(-100.0, 1), (100.0, 0)])
def test_forced_gate_gives_one_path(mmf, streams, bias, path):
    mmf.gate.bias.data.fill_(bias)
    both = paths(mmf, *streams)
    expected = mmf.norm(both[1] + mmf.out(gelu(both[path])))
    assert torch.allclose(mmf(*streams, LENGTHS), expected, atol=1e-5)


def test_open_gate_takes_half_of_each(mmf, streams):
    mmf.gate.weight.data.zero_()
    mmf.gate.bias.data.zero_()
    p, e = paths(mmf, *streams)
    expected = mmf.norm(e + mmf.out(gelu((p + e) / 2)))
    assert torch.allclose(mmf(*streams, LENGTHS), expected, atol=1e-5)


def test_channels_choose_apart(mmf, streams):
    mmf.gate.weight.data.zero_()
    mmf.gate.bias.data = torch.tensor([100.0, -100.0] * 3)
    p, e = paths(mmf, *streams)
    chosen = torch.where(torch.tensor([True, False] * 3), p, e)
    expected = mmf.norm(e + mmf.out(gelu(chosen)))
    assert torch.allclose(mmf(*streams, LENGTHS), expected, atol=1e-5)


def test_frames_stand_alone(mmf, streams):
    part = [x[1:, 2:3] for x in streams]
    whole = mmf(*streams, LENGTHS)[1:, 2:3]
    assert torch.allclose(mmf(*part, torch.tensor([1])), whole, atol=1e-5)


def test_both_streams_count(mmf, streams):
    ppg, emotional = streams
    fused = mmf(ppg, emotional, LENGTHS)
    assert not torch.allclose(mmf(ppg.roll(1, -1), emotional, LENGTHS), fused)
    assert not torch.allclose(mmf(ppg, emotional.flip(-1), LENGTHS), fused)


def test_every_parameter_learns(mmf, streams):
    mmf(*streams, LENGTHS)[..., 0].sum().backward()
    for name, parameter in mmf.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.fixture
def autocast_on_a_gpu():
    """A GPU's autocast, without a GPU: types and shapes alone."""
    with FakeTensorMode(), torch.device("cuda"):
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.float16)
        yield
        torch.set_autocast_enabled("cuda", False)


def test_half_precision_of_a_gpu(autocast_on_a_gpu):
    mmf, ppg = MMF(5, 8, 6), torch.randn(2, 7, 5).log_softmax(-1)
    assert mmf.from_ppg(ppg).dtype == torch.float16
    fused = mmf(ppg, torch.randn(2, 7, 8), LENGTHS)
    assert (fused.shape, fused.dtype) == ((2, 7, 6), torch.float32)

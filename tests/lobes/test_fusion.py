"""Fusion of the PPG and the emotional features."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import gelu, layer_norm

from qieemo_sb.errors import QieemoError
from qieemo_sb.lobes.fusion import (
    CMA,
    FUSIONS,
    MMF,
    CMAFirst,
    Concatenation,
    Projection,
)
from qieemo_sb.lobes.pooling import AveragePooling

LENGTHS = torch.tensor([7, 3])


def make_streams(batch=2, frames=7, seed=1):
    """PPG [B, T, 5] and emotional features [B, T, 8]."""
    generator = torch.Generator().manual_seed(seed)
    ppg, emotional = (
        torch.randn(batch, frames, width, generator=generator)
        for width in (5, 8)
    )
    return [(3 * ppg).log_softmax(-1), emotional]


@pytest.fixture
def streams():
    return make_streams()


@pytest.fixture
def mmf():
    return MMF(n_tokens=5, d_model=8, width=6).eval()


@pytest.fixture
def cma():
    return CMA(n_tokens=5, d_model=8, width=6, heads=2, ffn=12).eval()


# Every fusion


@pytest.fixture(params=FUSIONS)
def fuse(request):
    """A fusion of two streams; CMA's fused frames come from the two."""
    name, sizes = request.param, {"d_model": 8, "width": 12}
    sizes |= {} if name == "Projection" else {"n_tokens": 5}
    fusion = FUSIONS[name](**sizes).eval()
    if name != "CMA":
        return fusion
    join = Concatenation(5, 8, 12).eval()

    def run(ppg, emotional, lengths):
        fused = join(ppg, emotional, lengths)
        return fusion(fused, ppg, emotional, lengths)

    run.parameters = fusion.parameters
    run.train = fusion.train
    return run


def test_shape_and_frames_past_the_end(fuse, streams):
    before = fuse(*streams, LENGTHS)
    assert before.shape == (2, 7, 12)
    for stream in streams:
        stream[1, 3:] = torch.nan
    after = fuse(*streams, LENGTHS)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1, :3], before[1, :3])


def test_batch_mates_and_order_change_nothing(fuse):
    ppg, emotional = make_streams(8, 20)
    emotional, lengths = 10 * emotional, torch.arange(4, 20, 2)
    together = fuse(ppg, emotional, lengths)
    for row, length in enumerate(lengths.tolist()):
        one = [x[row : row + 1, :length] for x in (ppg, emotional)]
        alone = fuse(*one, lengths[row : row + 1])[0]
        assert torch.allclose(together[row, :length], alone, atol=1e-5)
    order = [2, 0, 3, 1, 7, 5, 6, 4]
    shuffled = fuse(ppg[order], emotional[order], lengths[order])
    for row, index in enumerate(order):
        size = lengths[index]
        expected = together[index, :size]
        assert torch.allclose(shuffled[row, :size], expected, atol=1e-5)


def test_every_parameter_learns(fuse, streams):
    fuse(*streams, LENGTHS)[..., 0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in fuse.parameters())


def test_dropout_is_for_training(fuse, streams):
    assert torch.equal(fuse(*streams, LENGTHS), fuse(*streams, LENGTHS))
    fuse.train()
    same = torch.equal(fuse(*streams, LENGTHS), fuse(*streams, LENGTHS))
    assert same == isinstance(fuse, Projection)


@pytest.mark.parametrize("name", ["MMF", "Concatenation", "Projection"])
def test_frames_stand_alone(name, streams):
    sizes = {} if name == "Projection" else {"n_tokens": 5}
    fusion = FUSIONS[name](d_model=8, width=6, **sizes).eval()
    part = [x[1:, 2:3] for x in streams]
    whole = fusion(*streams, LENGTHS)[1:, 2:3]
    assert torch.allclose(fusion(*part, torch.tensor([1])), whole, atol=1e-5)


# Concatenation and projection


def test_posteriors_then_features(streams):
    fusion = Concatenation(n_tokens=5, d_model=8, width=13).eval()
    torch.nn.init.eye_(fusion.linear.weight)
    torch.nn.init.zeros_(fusion.linear.bias)
    ppg, emotional = streams
    expected = layer_norm(torch.cat([ppg.exp(), emotional], -1), (13,))
    assert torch.allclose(fusion(*streams, LENGTHS), expected, atol=1e-5)


@pytest.mark.parametrize("n_tokens, d_model", [(5, 0), (0, 8)])
def test_one_stream_alone(streams, n_tokens, d_model):
    fusion = Concatenation(n_tokens, d_model, width=6).eval()
    ppg, emotional = streams
    fused = fusion(
        ppg if n_tokens else None, emotional if d_model else None, LENGTHS
    )
    assert fused.shape == (2, 7, 6)
    assert torch.isfinite(fused).all()


def test_projection_and_average_commute():
    projection, x = Projection(d_model=8, width=6), torch.randn(2, 7, 8)
    after = AveragePooling(6)(projection(None, x, LENGTHS), LENGTHS)
    before = projection.linear(AveragePooling(8)(x, LENGTHS))
    assert torch.allclose(after, before, atol=1e-5)


# MMF


def paths(mmf, ppg, emotional):
    """The two streams before the gate."""
    return (
        mmf.ppg_norm(mmf.from_ppg(ppg.exp())),
        mmf.emotional_norm(mmf.from_emotional(emotional)),
    )


@pytest.mark.parametrize(
    "bias, gate",
    [
        ([-100.0] * 6, [0.0] * 6),
        ([100.0] * 6, [1.0] * 6),
        ([0.0] * 6, [0.5] * 6),
        ([100.0, -100.0] * 3, [1.0, 0.0] * 3),  # channels choose apart
    ],
)
def test_gate_chooses_between_the_streams(mmf, streams, bias, gate):
    mmf.gate.weight.data.zero_()
    mmf.gate.bias.data = torch.tensor(bias)
    p, e = paths(mmf, *streams)
    gate = torch.tensor(gate)
    mixed = gate * p + (1 - gate) * e
    expected = mmf.norm(e + mmf.out(gelu(mixed)))
    assert torch.allclose(mmf(*streams, LENGTHS), expected, atol=1e-5)


def test_both_streams_count(mmf, streams):
    ppg, emotional = streams
    fused = mmf(ppg, emotional, LENGTHS)
    assert not torch.allclose(mmf(ppg.roll(1, -1), emotional, LENGTHS), fused)
    assert not torch.allclose(mmf(ppg, emotional.flip(-1), LENGTHS), fused)


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


# CMA


def with_fused(streams):
    return [torch.randn(*streams[0].shape[:2], 6), *streams]


def test_zero_past_the_end(cma, streams):
    attended = cma(*with_fused(streams), LENGTHS)
    assert not attended[1, 3:].any()
    assert attended[1, :3].abs().sum(-1).min() > 0
    one = cma(*with_fused(make_streams(2, 1)), torch.tensor([1, 1]))
    assert torch.isfinite(one).all()


def test_without_branches_the_frames_are_normed(cma, streams):
    for layer in (cma.to_ppg.out, cma.to_emotional.out, cma.ffn[-1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    fused, *streams = with_fused(streams)
    attended = cma(fused, *streams, torch.tensor([7, 7]))
    assert torch.allclose(attended, layer_norm(fused, (6,)), atol=1e-5)


def test_equal_keys_average_the_posteriors(cma, streams):
    torch.nn.init.zeros_(cma.to_ppg.keys.weight)
    fused, posteriors = torch.randn(7, 6), streams[0][0].exp()
    attended = cma.to_ppg(fused, posteriors, [7])
    mean = cma.to_ppg.values(posteriors).mean(dim=0)
    expected = cma.to_ppg.out(mean).expand(7, 6)
    assert torch.allclose(attended, expected, atol=1e-6)


@pytest.mark.parametrize("stream", [1, 2])
def test_every_frame_sees_all_real_frames(cma, stream):
    lengths = torch.tensor([4])
    streams = with_fused(make_streams(1, 6))
    before = cma(*streams, lengths)
    for frame in range(4):
        changed = [x.clone() for x in streams]
        changed[stream][0, frame] = changed[stream][0, frame].flip(-1)
        changes = (cma(*changed, lengths) - before).abs().amax(dim=-1)[0]
        assert (changes[:4] > 1e-7).all()


def test_attention_is_on_posteriors_not_their_logarithms(cma, streams):
    seen = []
    cma.to_ppg.values.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    cma(*with_fused(streams), torch.tensor([7, 7]))
    assert torch.allclose(seen[0].sum(dim=-1), torch.ones(14))


def test_width_is_split_among_the_heads():
    with pytest.raises(QieemoError, match="width 6 is no multiple of 4"):
        CMA(n_tokens=5, d_model=8, width=6, heads=4)


def test_cma_first_is_concatenation_then_cma_then_mmf(streams):
    fusion = CMAFirst(n_tokens=5, d_model=8, width=12).eval()
    ppg, emotional = streams
    joined = fusion.join(ppg, emotional, LENGTHS)
    attended = fusion.cma(joined, ppg, emotional, LENGTHS)
    expected = fusion.mmf(ppg, attended, LENGTHS)
    assert torch.equal(fusion(ppg, emotional, LENGTHS), expected)

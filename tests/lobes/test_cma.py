"""Attention across the frames of an utterance, and of no other."""

import pytest
import torch

from qieemo_sb.lobes.fusion import CMA


@pytest.fixture
def cma():
    torch.manual_seed(0)
    return CMA(n_tokens=5, d_model=8, width=6, heads=2, ffn=12).eval()


@pytest.fixture
def make_streams():
    """Make fused frames, PPG and emotional features of a batch."""

    def make(batch, frames, seed=1):
        generator = torch.Generator().manual_seed(seed)
        fused, ppg, emotional = (
            torch.randn(batch, frames, width, generator=generator)
            for width in (6, 5, 8)
        )
        return [fused, (3 * ppg).log_softmax(-1), emotional]

    return make


def test_zero_past_the_end(cma, make_streams):
    attended = cma(*make_streams(2, 7), torch.tensor([7, 3]))
    assert attended.shape == (2, 7, 6)
    assert not attended[1, 3:].any()
    assert attended[1, :3].abs().sum(-1).min() > 0


def test_without_branches_the_frames_are_normed(cma, make_streams):
    for layer in (cma.to_ppg.out, cma.to_emotional.out, cma.ffn[-1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    streams = make_streams(1, 4)
    expected = torch.nn.functional.layer_norm(streams[0], (6,))
    attended = cma(*streams, torch.tensor([4]))
    assert torch.allclose(attended, expected, atol=1e-5)


def test_alike_keys_average_the_posteriors(cma, make_streams):
    torch.nn.init.zeros_(cma.to_ppg.keys.weight)
    fused, ppg, _ = make_streams(1, 4)
    read = cma.to_ppg(fused[0], ppg[0].exp(), [4])
    mean = cma.to_ppg.values(ppg[0].exp()).mean(dim=0)
    expected = cma.to_ppg.out(mean).expand(4, 6)
    assert torch.allclose(read, expected, atol=1e-6)


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_frames_past_the_end_do_not_matter(cma, make_streams, stream):
    streams, lengths = make_streams(2, 7), torch.tensor([7, 3])
    before = cma(*streams, lengths)
    streams[stream] = streams[stream].clone()
    streams[stream][1, 3:] = torch.nan
    assert torch.equal(cma(*streams, lengths), before)


@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.parametrize("frame", range(4))
def test_every_frame_sees_all_frames_within(cma, make_streams, stream, frame):
    streams, lengths = make_streams(1, 6), torch.tensor([4])
    before = cma(*streams, lengths)
    streams[stream] = streams[stream].clone()
    streams[stream][0, frame] = streams[stream][0, frame].flip(-1)
    changes = (cma(*streams, lengths) - before).abs().amax(dim=-1)[0]
    assert (changes[:4] > 1e-7).all()


def test_alone_and_in_company(cma, make_streams):
    streams = [10 * x for x in make_streams(8, 20)]
    streams[1] = streams[1].log_softmax(-1)
    lengths = torch.arange(4, 20, 2)
    together = cma(*streams, lengths)
    for row, length in enumerate(lengths.tolist()):
        own = [x[row : row + 1, :length] for x in streams]
        alone = cma(*own, lengths[row : row + 1])[0]
        assert torch.allclose(together[row, :length], alone, atol=1e-5)


def test_order_of_the_batch(cma, make_streams):
    streams, lengths = make_streams(4, 7), torch.tensor([7, 2, 1, 5])
    order = [2, 0, 3, 1]
    shuffled = cma(*(x[order] for x in streams), lengths[order])
    expected = cma(*streams, lengths)[order]
    assert torch.allclose(shuffled, expected, atol=1e-5)


def test_posteriors_are_read_not_their_logarithms(cma, make_streams):
    fused, ppg, emotional = make_streams(1, 4)
    seen = []
    cma.to_ppg.values.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    cma(fused, ppg, emotional, torch.tensor([4]))
    assert torch.allclose(seen[0].sum(dim=-1), torch.ones(4))


def test_one_frame(cma, make_streams):
    attended = cma(*make_streams(2, 1), torch.tensor([1, 1]))
    assert torch.isfinite(attended).all()


def test_every_parameter_learns(cma, make_streams):
    attended = cma(*make_streams(2, 7), torch.tensor([7, 3]))
    attended[..., 0].sum().backward()
    for name, parameter in cma.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_width_is_split_among_the_heads():
    with pytest.raises(ValueError, match="width 6 is no multiple of 4"):
        CMA(n_tokens=5, d_model=8, width=6, heads=4)

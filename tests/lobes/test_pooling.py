"""Statistics of frames, plain and attentive, masked."""

import pytest
import torch

from qieemo_sb.lobes.pooling import (
    AttentiveStatisticsPooling,
    StatisticsPooling,
    merge,
)


@pytest.fixture(params=["attentive", "plain"])
def pool(request):
    torch.manual_seed(0)
    if request.param == "plain":
        return StatisticsPooling(width=6)
    return AttentiveStatisticsPooling(width=6, hidden=4)


def around(pool, frames, lengths, span):
    return torch.cat(list(pool.around(frames, lengths, span)), dim=1)


@pytest.fixture
def even():
    """Pooling whose frames all weigh the same."""
    return StatisticsPooling(width=2)


def test_shape(pool):
    pooled = pool(torch.randn(3, 9, 6), torch.tensor([9, 1, 4]))
    assert pooled.shape == (3, 12)


def test_without_attention_mean_and_deviation(even):
    frames = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [5.0, 6.0], [99, 99]]])
    pooled = even(frames, torch.tensor([3]))
    # 1, 3, 5: mean 3, variance 8 / 3. 0, 0, 6: mean 2, variance 8.
    expected = torch.tensor([[3.0, 2.0, (8 / 3) ** 0.5, 8**0.5]])
    assert torch.allclose(pooled, expected, atol=1e-5)


def test_attention_weighs_frames():
    pool = AttentiveStatisticsPooling(width=1, hidden=1)
    pool.attention[0].weight.data.fill_(1e3)  # tanh gives the sign
    pool.attention[0].bias.data.zero_()
    pool.attention[2].weight.data.fill_(torch.tensor(3.0).log() / 2)
    pool.attention[2].bias.data.fill_(7.0)  # cancels
    frames = torch.tensor([[[-1.0], [1.0]]])
    # Weights 1 : 3; mean 1/2, variance 3/4.
    pooled = pool(frames, torch.tensor([2]))
    assert pooled.flatten().tolist() == pytest.approx([0.5, 0.75**0.5])


def test_frames_past_the_end_do_not_matter(pool):
    frames, lengths = torch.randn(2, 9, 6), torch.tensor([9, 4])
    pooled = pool(frames, lengths)
    frames[1, 4:] = 1e4
    assert torch.equal(pool(frames, lengths), pooled)


@pytest.mark.parametrize("method", ["forward", "around"])
def test_alone_and_in_company(pool, method):
    def run(frames, lengths):
        if method == "forward":
            return pool(frames, lengths)
        return around(pool, frames, lengths, 5)

    frames, lengths = 10 * torch.randn(8, 20, 6), torch.arange(4, 20, 2)
    together = run(frames, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = run(frames[row : row + 1, :length], lengths[row : row + 1])
        own = together[row : row + 1, :length]
        if method == "forward":
            own = together[row : row + 1]
        assert torch.allclose(own, alone, atol=1e-5)


def test_order_of_the_batch(pool):
    frames, lengths = torch.randn(4, 7, 6), torch.tensor([7, 2, 1, 5])
    order = [2, 0, 3, 1]
    shuffled = pool(frames[order], lengths[order])
    assert torch.allclose(shuffled, pool(frames, lengths)[order], atol=1e-6)


def test_one_frame_has_no_deviation(pool):
    frames = torch.randn(1, 1, 6, requires_grad=True)
    pooled = pool(frames, torch.tensor([1]))
    assert torch.allclose(pooled[:, :6], frames[:, 0])
    assert torch.allclose(pooled[:, 6:], torch.full((1, 6), 1e-3))
    pooled.sum().backward()
    assert torch.isfinite(frames.grad).all()


def test_every_parameter_learns():
    torch.manual_seed(0)
    pool = AttentiveStatisticsPooling(width=6, hidden=4)
    pool(torch.randn(2, 9, 6), torch.tensor([9, 4])).sum().backward()
    for name, parameter in pool.named_parameters():
        # A bias on every score cancels in the softmax.
        if name != "attention.2.bias":
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("method", ["forward", "around"])
def test_float32_under_autocast(pool, method):
    def run(frames):
        lengths = torch.tensor([9, 4])
        if method == "forward":
            return pool(frames, lengths)
        return around(pool, frames, lengths, 5)

    frames = torch.randn(2, 9, 6)
    expected = run(frames)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(frames), expected)
        assert run(frames.bfloat16()).dtype == torch.float32


# Around every frame


@pytest.mark.parametrize("span", [39, 101])
def test_around_with_a_long_span_is_the_whole(pool, span):
    frames, lengths = torch.randn(2, 20, 6), torch.tensor([20, 11])
    whole = pool(frames, lengths).unsqueeze(1)
    pooled = around(pool, frames, lengths, span)
    assert pooled.shape == (2, 20, 12)
    for row, length in enumerate(lengths.tolist()):
        own = pooled[row, :length]
        assert torch.allclose(own, whole[row].expand_as(own), atol=1e-4)


def test_around_is_forward_on_the_stretch(pool):
    frames = torch.randn(1, 12, 6)
    pooled = around(pool, frames, torch.tensor([12]), 5)
    for t in range(12):
        stretch = frames[:, max(0, t - 2) : t + 3]
        expected = pool(stretch, torch.tensor([stretch.shape[1]]))
        assert torch.allclose(pooled[:, t], expected, atol=1e-4), t


def test_around_one_frame_is_the_frame(pool):
    frames = torch.randn(1, 6, 6)
    pooled = around(pool, frames, torch.tensor([6]), 1)
    assert torch.allclose(pooled[..., :6], frames, atol=1e-5)


def test_around_frames_that_attention_passes_over():
    pool = AttentiveStatisticsPooling(width=1, hidden=1)
    pool.attention[0].weight.data.fill_(1.0)
    pool.attention[0].bias.data.zero_()
    pool.attention[2].weight.data.fill_(500.0)  # exp(-1000) is zero
    frames = torch.tensor([[[-9.0]] * 10 + [[9.0]] * 10]).view(1, 20, 1)
    pooled = around(pool, frames, torch.tensor([20]), 3)
    assert torch.isfinite(pooled).all()
    assert pooled[0, 0, 0].item() == pytest.approx(-9.0, abs=1e-4)


def test_around_comes_30_s_at_a_time(pool):
    frames, lengths = torch.randn(2, 3_100, 6), torch.tensor([3_100, 1_510])
    pieces = list(pool.around(frames, lengths, 51))
    assert [piece.shape[1] for piece in pieces] == [1_500, 1_500, 100]
    # Frame 1 499 is pooled with 1 474 … 1 524, half of them in the next piece.
    stretch = frames[:1, 1_474:1_525]
    expected = pool(stretch, torch.tensor([51]))
    assert torch.allclose(pieces[0][:1, -1], expected, atol=1e-4)


def test_a_span_has_a_middle(pool):
    with pytest.raises(ValueError, match="4 frames has no middle"):
        pool.around(torch.randn(1, 9, 6), torch.tensor([9]), 4)


# Window by window


def test_joined_windows_are_the_whole(pool):
    frames = 3 * torch.randn(1, 20, 6)
    windows = [frames[:, :7], frames[:, 7:19], frames[:, 19:]]
    statistics = [
        pool.statistics(window, torch.tensor([window.shape[1]]))
        for window in windows
    ]
    expected = pool(frames, torch.tensor([20]))
    assert torch.allclose(pool.join(statistics, [3]), expected, atol=1e-6)


def test_windows_that_are_merged_one_by_one_are_the_whole(pool):
    frames = 3 + torch.randn(1, 40, 6)
    so_far = None
    for part in frames.split([15, 4, 21], dim=1):
        own = pool.statistics(part, torch.tensor([part.shape[1]]))
        so_far = own if so_far is None else merge(so_far, own)
    whole = pool(frames, torch.tensor([40]))
    assert torch.allclose(pool.join([so_far], [1]), whole, atol=1e-5)


def test_windows_of_two_utterances(pool):
    frames, lengths = torch.randn(3, 9, 6), torch.tensor([9, 4, 5])
    pooled = pool.join([pool.statistics(frames, lengths)], [1, 2])
    both = torch.cat([frames[1:2, :4], frames[2:, :5]], dim=1)
    assert torch.equal(pooled[:1], pool(frames[:1], lengths[:1]))
    expected = pool(both, torch.tensor([9]))
    assert torch.allclose(pooled[1:], expected, atol=1e-6)


def test_single_windows_are_pooled_as_they_are(pool):
    frames, lengths = torch.randn(3, 9, 6), torch.tensor([9, 4, 5])
    pooled = pool.join([pool.statistics(frames, lengths)], [1, 1, 1])
    assert torch.equal(pooled, pool(frames, lengths))

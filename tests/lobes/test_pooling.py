"""Statistics of frames, plain and attentive, masked."""

import pytest
import torch

from qieemo_sb.errors import QieemoError
from qieemo_sb.lobes.pooling import (
    AttentiveStatisticsPooling,
    AveragePooling,
    BlockStatistics,
    Statistics,
    StatisticsPooling,
)

FRAMES = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [5.0, 6.0], [99.0, 99.0]]])


@pytest.fixture(params=["plain", "attentive", "average"])
def pool(request):
    if request.param == "plain":
        return StatisticsPooling(width=6)
    if request.param == "average":
        return AveragePooling(width=6)
    return AttentiveStatisticsPooling(width=6, hidden=4)


def around(pool, frames, lengths, span):
    return torch.cat(list(pool.around(frames, lengths, span)), dim=1)


# Worked by hand


def test_mean_and_deviation():
    pooled = StatisticsPooling(width=2)(FRAMES, torch.tensor([3]))
    # 1, 3, 5: mean 3, variance 8 / 3. 0, 0, 6: mean 2, variance 8.
    expected = torch.tensor([[3.0, 2.0, (8 / 3) ** 0.5, 8**0.5]])
    assert torch.allclose(pooled, expected, atol=1e-5)


def test_average():
    pool = AveragePooling(width=2)
    assert pool(FRAMES, torch.tensor([3])).tolist() == [[3.0, 2.0]]
    pooled = around(pool, FRAMES, torch.tensor([3]), 3)
    assert pooled[0, :3, 0].tolist() == pytest.approx([2.0, 3.0, 4.0])


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


def test_statistics_of_blocks():
    pool = BlockStatistics([2, 1], d_model=1)
    one = torch.tensor([[[1.0], [3.0], [99.0]]])
    two = torch.tensor([[[0.0], [8.0], [99.0]]])
    vector = pool({1: one, 2: two}, torch.tensor([2]))
    # Means of block 2, then of block 1; then deviations.
    assert vector.tolist() == [pytest.approx([4.0, 2.0, 4.0, 1.0], abs=1e-4)]


def test_blocks_are_pooled_as_if_joined():
    hidden = {k: 100 * torch.randn(2, 7, 5) for k in (1, 3)}
    pool, lengths = BlockStatistics([1, 3], d_model=5), torch.tensor([7, 4])
    joined = pool.frames(hidden)
    assert joined.shape == (2, 7, 10)
    expected = StatisticsPooling(10)(joined, lengths)
    assert torch.equal(pool(hidden, lengths), expected)
    assert pool.embedding_width == expected.shape[1]


@pytest.mark.parametrize("blocks", [[], [2, 2]])
def test_blocks_are_distinct(blocks):
    with pytest.raises(QieemoError, match="(?i)distinct blocks"):
        BlockStatistics(blocks, 4)


# Every pooling


def test_frames_past_the_end_do_not_matter(pool):
    frames, lengths = torch.randn(2, 9, 6), torch.tensor([9, 4])
    pooled = pool(frames, lengths)
    assert pooled.shape == (2, pool.embedding_width)
    frames[1, 4:] = 1e4
    assert torch.equal(pool(frames, lengths), pooled)


@pytest.mark.parametrize("method", ["forward", "around"])
def test_batch_mates_and_order_change_nothing(pool, method):
    def run(frames, lengths):
        if method == "forward":
            return pool(frames, lengths).unsqueeze(1)
        return around(pool, frames, lengths, 5)

    frames, lengths = 10 * torch.randn(8, 20, 6), torch.arange(4, 20, 2)
    together = run(frames, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = run(frames[row : row + 1, :length], lengths[row : row + 1])
        found = together[row : row + 1, :length]
        assert torch.allclose(found, alone, atol=1e-5)
    order = [2, 0, 3, 1, 7, 5, 6, 4]
    shuffled = run(frames[order], lengths[order])
    for row, index in enumerate(order):
        found = shuffled[row, : lengths[index]]
        expected = together[index, : lengths[index]]
        assert torch.allclose(found, expected, atol=1e-6)


def test_one_frame_has_no_deviation(pool):
    frames = torch.randn(1, 1, 6, requires_grad=True)
    pooled = pool(frames, torch.tensor([1]))
    assert torch.allclose(pooled[:, :6], frames[:, 0])
    deviation = pooled[:, 6:]
    assert torch.allclose(deviation, torch.full_like(deviation, 1e-3))
    pooled.sum().backward()
    assert torch.isfinite(frames.grad).all()


def test_every_parameter_learns():
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
    assert pooled.shape == (2, 20, pool.embedding_width)
    for row, length in enumerate(lengths.tolist()):
        found = pooled[row, :length]
        assert torch.allclose(found, whole[row].expand_as(found), atol=1e-4)


@pytest.mark.parametrize("span", [1, 5])
def test_around_is_forward_on_the_stretch(pool, span):
    frames = torch.randn(1, 12, 6)
    pooled = around(pool, frames, torch.tensor([12]), span)
    half = span // 2
    for t in range(12):
        stretch = frames[:, max(0, t - half) : t + half + 1]
        expected = pool(stretch, torch.tensor([stretch.shape[1]]))
        assert torch.allclose(pooled[:, t], expected, atol=1e-3), t


def test_around_frames_without_attention():
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


# Window by window


@pytest.mark.parametrize("mean", [0, 300])
def test_merged_windows_are_the_whole(pool, mean):
    frames = mean + 3 * torch.randn(1, 40, 6)
    merged = None
    for part in frames.split([15, 4, 21], dim=1):
        new = pool.update(part, torch.tensor([part.shape[1]]))
        merged = new if merged is None else merged.merge(new)
    whole = pool(frames, torch.tensor([40]))
    assert torch.allclose(pool.result(merged), whole, rtol=1e-5, atol=1e-5)


def test_windows_of_a_batch_are_apart(pool):
    frames, lengths = torch.randn(3, 9, 6), torch.tensor([9, 4, 5])
    statistics = pool.update(frames, lengths)
    assert torch.equal(pool.result(statistics), pool(frames, lengths))
    second, third = (
        Statistics(*(x[i, None] for x in statistics)) for i in (1, 2)
    )
    both = torch.cat([frames[1:2, :4], frames[2:, :5]], dim=1)
    expected = pool(both, torch.tensor([9]))
    found = pool.result(second.merge(third))
    assert torch.allclose(found, expected, atol=1e-6)

"""Statistics of blocks, past the fusion."""

import pytest
import torch

from qieemo_sb.lobes.pooling import BlockStatistics, StatisticsPooling


def test_worked_by_hand():
    statistics = BlockStatistics([2, 1], d_model=1)
    one = torch.tensor([[[1.0], [3.0], [99.0]]])
    two = torch.tensor([[[0.0], [8.0], [99.0]]])
    vector = statistics({1: one, 2: two}, torch.tensor([2]))
    # Means of block 2, then of block 1; then deviations.
    assert vector.tolist() == [pytest.approx([4.0, 2.0, 4.0, 1.0], abs=1e-4)]


def test_pooling_blocks_side_by_side_is_the_same():
    hidden = {k: 100 * torch.randn(2, 7, 5) for k in (1, 3)}
    statistics, lengths = BlockStatistics([1, 3], d_model=5), [7, 4]
    joined = statistics.frames(hidden)
    assert joined.shape == (2, 7, 10)
    expected = StatisticsPooling(10)(joined, torch.tensor(lengths))
    assert torch.equal(statistics(hidden, torch.tensor(lengths)), expected)


@pytest.mark.parametrize("blocks", [[], [2, 2]])
def test_blocks_are_distinct(blocks):
    with pytest.raises(ValueError, match="distinct blocks"):
        BlockStatistics(blocks, 4)

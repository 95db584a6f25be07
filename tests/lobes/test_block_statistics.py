"""Statistics of blocks, past the fusion."""

import pytest
import torch

from qieemo_sb.lobes.block_statistics import BlockStatistics


def test_worked_by_hand():
    statistics = BlockStatistics([2, 1], d_model=1)
    one = torch.tensor([[[1.0], [3.0], [99.0]]])
    two = torch.tensor([[[0.0], [8.0], [99.0]]])
    frames = statistics.frames({1: one, 2: two})
    vector = statistics(frames, torch.tensor([2]))
    # Means of block 2, then of block 1; then deviations.
    assert vector.tolist() == [pytest.approx([4.0, 2.0, 4.0, 1.0], abs=1e-4)]


@pytest.mark.parametrize("blocks", [[], [2, 2]])
def test_blocks_are_distinct(blocks):
    with pytest.raises(ValueError, match="distinct blocks"):
        BlockStatistics(blocks, 4)

"""Plain statistics of the encoder's blocks, beside what the fusion gives.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Sequence

import torch

from qieemo_sb.lobes.pooling import StatisticsPooling


class BlockStatistics(StatisticsPooling):
    """Mean and standard deviation of each channel of some blocks.

    What a fusion learns from few speakers holds less well for others than
    these numbers, which it has no part in: given both, the classifier takes
    what it can use of each (figures in the RAVDESS recipe's README).

    Arguments
    ---------
    blocks : sequence of int
        K, 1-based; 0 is the input of block 1.
    d_model : int
        D, the encoder's width.

    Example
    -------
    >>> statistics = BlockStatistics(blocks=[1, 2], d_model=4)
    >>> hidden = {1: torch.randn(2, 3, 4), 2: torch.randn(2, 3, 4)}
    >>> statistics(hidden, torch.tensor([3, 1])).shape
    torch.Size([2, 16])
    """

    def __init__(self, blocks: Sequence[int], d_model: int):
        if not blocks or len(set(blocks)) != len(blocks):
            raise ValueError(
                f"BlockStatistics needs distinct blocks, not {blocks}."
            )
        super().__init__(len(blocks) * d_model)
        self.blocks = list(blocks)

    def statistics(
        self, hidden_states: dict[int, torch.Tensor], lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As ``StatisticsPooling.statistics`` of ``frames``.

        Block by block: side by side they would be a large copy.
        """
        own = [
            super(BlockStatistics, self).statistics(hidden_states[k], lengths)
            for k in self.blocks
        ]
        means, variances, scores = zip(*own, strict=True)
        return torch.cat(means, -1), torch.cat(variances, -1), scores[0]

    def frames(self, hidden_states: dict[int, torch.Tensor]) -> torch.Tensor:
        """Blocks → [B, T, D] each → [B, T, K D], side by side."""
        return torch.cat([hidden_states[k] for k in self.blocks], dim=-1)

"""SUPERB's view of an encoder: a learned weighted sum of blocks, as they are.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Sequence

import torch

from qieemo_sb.rebuild import Rebuildable


class WeightedSum(Rebuildable):
    r"""Weighted sum of blocks, which ``BlockMixer`` has to beat.

    .. math:: x_t = \sum_{k \in K} \mathrm{softmax}(w)_k \, h^{(k)}_t

    as in SUPERB (arXiv 2105.01051). Nothing is standardised: a block of
    larger numbers weighs more. One block alone is that block.

    Arguments
    ---------
    blocks : sequence of int
        K, 1-based; 0 is the input of block 1.
    d_model : int
        D, the encoder's width.

    Example
    -------
    >>> mixer = WeightedSum(blocks=[1, 2], d_model=4)
    >>> hidden = {1: torch.zeros(2, 3, 4), 2: torch.ones(2, 3, 4)}
    >>> mixer(hidden, torch.tensor([3, 1])).unique()
    tensor([0.5000], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, blocks: Sequence[int], d_model: int):
        super().__init__()
        if not blocks or len(set(blocks)) != len(blocks):
            raise ValueError(
                f"WeightedSum needs distinct blocks, not {blocks}."
            )
        self.blocks = list(blocks)
        self.d_model = d_model
        self.logits = torch.nn.Parameter(torch.zeros(len(self.blocks)))

    def weights(self) -> torch.Tensor:
        """[K] weights of the blocks; they add up to one."""
        return self.logits.softmax(dim=0)

    def forward(
        self, hidden_states: dict[int, torch.Tensor], lengths: torch.Tensor
    ) -> torch.Tensor:
        """Mix blocks.

        Arguments
        ---------
        hidden_states : dict of int to torch.Tensor
            Block → [B, T, D].
        lengths : torch.Tensor
            [B] frames. Not used: each frame is mixed by itself.

        Returns
        -------
        torch.Tensor
            [B, T, D].
        """
        weights = self.weights()
        return sum(
            weight * hidden_states[k]
            for weight, k in zip(weights, self.blocks, strict=True)
        )

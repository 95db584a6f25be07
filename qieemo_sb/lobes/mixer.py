"""Emotional features: one of the encoder's blocks, or a learned mix of some.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import layer_norm

from qieemo_sb.rebuild import Rebuildable


class BlockMixer(Rebuildable):
    r"""Weighted sum of normalised blocks.

    .. math:: x_t = \sum_{k \in K} \mathrm{softmax}(w)_k \,
              \mathrm{LN}(h^{(k)}_t)

    LN has no parameters: it only brings blocks, whose scales differ by two
    orders of magnitude, to one scale, so that the weights can be read. A
    weighted sum of blocks is SUPERB's (arXiv 2105.01051).

    Arguments
    ---------
    blocks : sequence of int
        K, 1-based; 0 is the input of block 1.
    d_model : int
        D, the encoder's width.

    Example
    -------
    >>> mixer = BlockMixer(blocks=[1, 2], d_model=4)
    >>> hidden = {1: torch.randn(2, 3, 4), 2: torch.randn(2, 3, 4)}
    >>> mixer(hidden, torch.tensor([3, 1])).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, blocks: Sequence[int], d_model: int):
        super().__init__()
        if not blocks or len(set(blocks)) != len(blocks):
            raise ValueError(f"BlockMixer needs distinct blocks, not {blocks}.")
        self.blocks = list(blocks)
        self.d_model = d_model
        if len(self.blocks) > 1:
            self.logits = torch.nn.Parameter(torch.zeros(len(self.blocks)))

    def weights(self) -> torch.Tensor:
        """[K] weights of the blocks; they add up to one."""
        if len(self.blocks) == 1:
            return torch.ones(1)
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
        normed = [
            layer_norm(hidden_states[k], (self.d_model,)) for k in self.blocks
        ]
        if len(normed) == 1:
            return normed[0]
        pairs = zip(self.weights(), normed, strict=True)
        return sum(weight * x for weight, x in pairs)

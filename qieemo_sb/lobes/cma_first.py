"""MMF after CMA instead of before it.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

from qieemo_sb.lobes.cma import CMA
from qieemo_sb.lobes.concatenation import Concatenation
from qieemo_sb.lobes.mmf import MMF
from qieemo_sb.rebuild import Rebuildable


class CMAFirst(Rebuildable):
    """Plain join → CMA → MMF of the PPG and what CMA has made.

    The other order of the same two modules: frames are joined by
    concatenation, ask both streams of all frames, and MMF then lets each
    channel of each frame choose between the PPG and what was attended. Stands
    in MMF's place; the model's own ``cma`` is then null.

    Arguments
    ---------
    n_tokens : int
        V of the PPG.
    d_model : int
        D of the emotional features.
    width : int
        H of the result.
    dropout : float
        Of all three.

    Example
    -------
    >>> fusion = CMAFirst(n_tokens=5, d_model=8, width=12)
    >>> ppg = torch.randn(2, 7, 5).log_softmax(-1)
    >>> fusion(ppg, torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 12])
    """

    def __init__(
        self, n_tokens: int, d_model: int, width: int, dropout: float = 0.1
    ):
        super().__init__()
        self.width = width
        self.join = Concatenation(n_tokens, d_model, width, dropout)
        self.cma = CMA(n_tokens, d_model, width, dropout=dropout)
        self.mmf = MMF(n_tokens, width, width, dropout)

    def forward(
        self,
        ppg: torch.Tensor,
        emotional: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Fuse frames.

        Arguments
        ---------
        ppg : torch.Tensor
            [B, T, V] log-probabilities.
        emotional : torch.Tensor
            [B, T, D].
        lengths : torch.Tensor
            [B] frames, at least one each.

        Returns
        -------
        torch.Tensor
            [B, T, H].
        """
        joined = self.join(ppg, emotional, lengths)
        attended = self.cma(joined, ppg, emotional, lengths)
        return self.mmf(ppg, attended, lengths)

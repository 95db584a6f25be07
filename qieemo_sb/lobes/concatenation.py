"""The plain join of the two streams, which MMF has to beat.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

from qieemo_sb.lobes.dropout import Dropout
from qieemo_sb.rebuild import Rebuildable


class Concatenation(Rebuildable):
    r"""Join the streams frame by frame: ``LN(W [π_t; x_t])``.

    Takes the place of MMF where that is switched off, and serves one stream
    alone: leave the other one's width at 0.

    Arguments
    ---------
    n_tokens : int
        V of the PPG, or 0 for none.
    d_model : int
        D of the emotional features, or 0 for none.
    width : int
        H of the result.
    dropout : float
        On the joined input.

    Example
    -------
    >>> join = Concatenation(n_tokens=5, d_model=8, width=6)
    >>> ppg = torch.randn(2, 7, 5).log_softmax(-1)
    >>> join(ppg, torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 6])
    """

    def __init__(
        self, n_tokens: int, d_model: int, width: int, dropout: float = 0.1
    ):
        super().__init__()
        self.width = width
        self.dropout = Dropout(dropout)
        self.linear = torch.nn.Linear(n_tokens + d_model, width)
        self.norm = torch.nn.LayerNorm(width)

    def forward(
        self,
        ppg: torch.Tensor | None,
        emotional: torch.Tensor | None,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Join frames.

        Arguments
        ---------
        ppg : torch.Tensor or None
            [B, T, V] log-probabilities.
        emotional : torch.Tensor or None
            [B, T, D].
        lengths : torch.Tensor
            [B] frames. Not used: each frame is joined by itself.

        Returns
        -------
        torch.Tensor
            [B, T, H].
        """
        streams = [] if ppg is None else [ppg.exp()]
        streams += [] if emotional is None else [emotional]
        joined = self.dropout(torch.cat(streams, dim=-1))
        return self.norm(self.linear(joined))

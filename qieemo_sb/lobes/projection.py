"""A linear layer in MMF's place, for baselines of one stream.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

from qieemo_sb.rebuild import Rebuildable


class Projection(Rebuildable):
    """Emotional features, frame by frame, through one linear layer.

    SUPERB's projector (arXiv 2105.01051). With average pooling behind it the
    whole is linear in the features.

    Arguments
    ---------
    d_model : int
        D of the emotional features.
    width : int
        H of the result.

    Example
    -------
    >>> projection = Projection(d_model=8, width=6)
    >>> projection(None, torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 6])
    """

    def __init__(self, d_model: int, width: int):
        super().__init__()
        self.width = width
        self.linear = torch.nn.Linear(d_model, width)

    def forward(
        self,
        ppg: torch.Tensor | None,
        emotional: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Project frames.

        Arguments
        ---------
        ppg : torch.Tensor or None
            Not used.
        emotional : torch.Tensor
            [B, T, D].
        lengths : torch.Tensor
            [B] frames. Not used: each frame is projected by itself.

        Returns
        -------
        torch.Tensor
            [B, T, H].
        """
        return self.linear(emotional)

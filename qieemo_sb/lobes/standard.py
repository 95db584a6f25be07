"""Channels brought to mean zero and variance one, as training data had them.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

EPSILON = 1e-5


class Standard(torch.nn.Module):
    """Running mean and variance of each channel.

    Unlike a batch norm's, they are the same in training and in use: vectors
    are standardised by all that was heard lately, not by their batch alone.

    Arguments
    ---------
    *shape : int
        Of what is standardised, without its first axes.
    memory : int
        How many vectors the statistics look back on.

    Example
    -------
    >>> standard = Standard(2, memory=100)
    >>> standard.update(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> standard.mean, standard.variance
    (tensor([2., 5.]), tensor([1., 0.]))
    """

    def __init__(self, *shape: int, memory: int):
        super().__init__()
        self.memory = memory
        # In float, as all of a bundle's weights are: exact up to 2 ** 24.
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Standardise vectors [..., *shape], whatever the mode."""
        return (x - self.mean) * (self.variance + EPSILON).rsqrt()

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        """Merge vectors [N, *shape] into the statistics (Chan et al., 1979)."""
        x = x.float()
        size = len(x)
        share = size / (self.count + size)
        mean = x.mean(dim=0)
        shift = mean - self.mean
        # torch's own var takes several times as long.
        variance = (x - mean).square_().mean(dim=0)
        self.variance += share * (variance - self.variance)
        self.variance += share * (1 - share) * shift.square()
        self.mean += share * shift
        self.count.copy_((self.count + size).clamp(max=self.memory))

"""Running statistics of each training speaker."""

from collections.abc import Sequence
from typing import Any

import torch

from qieemo_sb.lobes.normalization import Moments, RunningMoments

MEMORY = 100  # of a training speaker's clips; they change as the fusion learns


class TrainingSpeakers(torch.nn.Module):
    """Running moments of the pooled vectors of each training speaker.

    Each of several processes keeps the moments of its share of the data.

    Arguments
    ---------
    names : sequence of str
        The speakers.
    width : int
        E of a pooled vector.

    Example
    -------
    >>> speakers = TrainingSpeakers(["ann", "bob"], width=3)
    >>> moments = speakers(["bob", "ann", "bob"], torch.randn(3, 3))
    >>> moments.count.squeeze(1), moments.mean.shape
    (tensor([2., 1., 2.]), torch.Size([3, 3]))
    """

    def __init__(self, names: Sequence[str], width: int):
        super().__init__()
        self.places = {name: i for i, name in enumerate(sorted(set(names)))}
        self.standards = torch.nn.ModuleList(
            RunningMoments(width, memory=MEMORY) for _ in self.places
        )

    def forward(self, names: Sequence[str], embedding: torch.Tensor) -> Moments:
        """Update the speakers' moments and return those of each vector.

        Arguments
        ---------
        names : sequence of str
            B speakers.
        embedding : torch.Tensor
            [B, E].

        Returns
        -------
        Moments
            [B, 1] counts, [B, E] means and variances.
        """
        for name in sorted(set(names)):
            rows = [i for i, other in enumerate(names) if other == name]
            moments: Any = self.standards[self.places[name]]
            moments.update(embedding[rows].detach())
        each = [self.standards[self.places[name]].moments for name in names]
        count, mean, variance = map(torch.stack, zip(*each, strict=True))
        return Moments(count.unsqueeze(1), mean, variance)

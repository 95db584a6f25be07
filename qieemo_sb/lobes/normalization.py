"""Standardisation by running statistics, and dropout."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

EPSILON = 1e-5
LEVELS = 256  # of a byte


class Moments(NamedTuple):
    """Mean and variance of each channel over some vectors.

    Arguments
    ---------
    count : torch.Tensor
        Number of vectors: a scalar, or of a shape that broadcasts with the
        next two.
    mean, variance : torch.Tensor
        [..., *shape].

    Example
    -------
    >>> moments = Moments.of(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> moments.mean, moments.variance
    (tensor([2., 5.]), tensor([1., 0.]))
    """

    count: Tensor  # type: ignore[assignment]  # tuple has a method count
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Count, mean and variance of vectors [N, *shape], in float32."""
        x = x.float()
        mean = x.mean(dim=0)
        # torch's own var takes several times as long.
        variance = (x - mean).square_().mean(dim=0)
        return cls(torch.tensor(float(len(x))).to(x.device), mean, variance)

    def merge(self, other: Moments) -> Moments:
        """Moments of the vectors of both (Chan et al., 1979)."""
        count = self.count + other.count
        share = other.count / count
        shift = other.mean - self.mean
        variance = self.variance + share * (other.variance - self.variance)
        variance = variance + share * (1 - share) * shift.square()
        return Moments(count, self.mean + share * shift, variance)

    def standardise(self, x: Tensor) -> Tensor:
        """Bring vectors [..., *shape] to mean zero and variance one."""
        return (x - self.mean) * (self.variance + EPSILON).rsqrt()


# A speaker's moments may be saved: torch.load with weights_only, its default,
# builds only classes that are registered.
torch.serialization.add_safe_globals([Moments])


class RunningMoments(nn.Module):
    """Running mean and variance of each channel.

    Unlike in a batch norm, they are the same in training and evaluation:
    vectors are standardised by all recent ones, not by their batch alone.

    Arguments
    ---------
    *shape : int
        Shape of one vector.
    memory : int
        Number of vectors over which old ones fade out.

    Example
    -------
    >>> standard = RunningMoments(2, memory=100)
    >>> standard.update(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> standard.mean, standard.variance
    (tensor([2., 5.]), tensor([1., 0.]))
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, *shape: int, memory: int):
        super().__init__()
        self.memory = memory
        self.frozen = False  # True: they stay as they are in training
        # A float, as all weights of a model folder: exact up to 2 ** 24.
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    @property
    def moments(self) -> Moments:
        """The statistics so far: the buffers, not copies."""
        return Moments(self.count, self.mean, self.variance)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Merge vectors [N, *shape] into the statistics, unless ``frozen``."""
        if not self.frozen:
            self.merge(Moments.of(x))

    @torch.no_grad()
    def merge(self, other: Moments) -> None:
        """Merge moments of other vectors into the statistics."""
        merged = self.moments.merge(other)
        self.count.copy_(merged.count.clamp(max=self.memory))
        self.mean.copy_(merged.mean)
        self.variance.copy_(merged.variance)


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``, several times as fast on the CPU.

    There torch draws a float for every number, which takes as long as the
    products of a small lobe. This one draws a byte: ``p`` is rounded to steps
    of 1/256, and the numbers kept are scaled by the rounded share.

    Arguments
    ---------
    p, inplace
        As of ``torch.nn.Dropout``.

    Example
    -------
    >>> Dropout(0.5)(torch.ones(1000)).unique()
    tensor([0., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero some numbers of x [...] in training and scale the others."""
        level = round(LEVELS * self.p)
        drawn = self.training and 0 < level < LEVELS
        if not drawn or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
        words.random_(torch.iinfo(torch.int64).min, None)  # all of its bits
        chance = words.view(torch.uint8)[: x.numel()].view(x.shape)
        kept = (chance >= level).to(x.dtype)
        return x * kept.mul_(LEVELS / (LEVELS - level))

"""Masked statistics pooling, plain or attentive: frames → one vector.

A pooling can take an utterance window by window: ``update`` gives the
statistics of windows, ``Statistics.merge`` those of two stretches as if they
had been one, ``result`` the pooled vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d

from qieemo_sb.frames import WINDOW_FRAMES, frame_mask
from qieemo_sb.lobes import Part
from qieemo_sb.lobes.blocks import check_distinct

VARIANCE_FLOOR = 1e-6  # keeps the gradient of a square root finite


class Statistics(NamedTuple):
    """Weighted statistics of the frames of N stretches of speech.

    Arguments
    ---------
    mean, variance : torch.Tensor
        [N, H].
    log_weight : torch.Tensor
        [N, 1] logarithm of the weight of all frames together.
    """

    mean: Tensor
    variance: Tensor
    log_weight: Tensor

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of two stretches as if they had been one, N = 1 each."""
        both = zip(self, other, strict=True)
        means, variances, scores = map(torch.cat, both)  # [2, *]
        weights = scores.softmax(dim=0)
        mean = (weights * means).sum(dim=0, keepdim=True)
        variances = variances + (means - mean).square()
        variance = (weights * variances).sum(dim=0, keepdim=True)
        return Statistics(mean, variance, scores.logsumexp(dim=0, keepdim=True))


class StatisticsPooling(Part):
    """Mean and standard deviation of each channel over an utterance's frames.

    Frames past an utterance's end do not count. Computed in float32.

    Arguments
    ---------
    width : int
        H of the frames; the vector has E = 2 H.

    Example
    -------
    >>> pool = StatisticsPooling(width=1)
    >>> frames = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> pool(frames, torch.tensor([2])).round(decimals=3)
    tensor([[2., 1.]])
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.embedding_width = 2 * width

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Pool whole utterances.

        Arguments
        ---------
        frames, lengths
            As of ``update``.

        Returns
        -------
        torch.Tensor
            [B, E].
        """
        return self.result(self.update(frames, lengths))

    def update(self, frames: Tensor, lengths: Tensor) -> Statistics:
        """Statistics of windows.

        Arguments
        ---------
        frames : torch.Tensor
            [N, T, H] of N windows.
        lengths : torch.Tensor
            [N] frames, at least one each.

        Returns
        -------
        Statistics
        """
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.float()
            scores = self.scores(frames)
            rows = [
                _weighted(window[:size], score[:size])
                for window, score, size in zip(
                    frames, scores, lengths.tolist(), strict=True
                )
            ]
        return Statistics(*map(torch.stack, zip(*rows, strict=True)))

    def result(self, statistics: Statistics) -> Tensor:
        """Statistics → vectors [N, 2 H]: means, then standard deviations."""
        deviation = (statistics.variance + VARIANCE_FLOOR).sqrt()
        return torch.cat([statistics.mean, deviation], dim=-1)

    def around(
        self, frames: Tensor, lengths: Tensor, span: int
    ) -> Iterator[Tensor]:
        """Pool ``span`` frames around every frame, with the same weights.

        The result of ``forward`` for that stretch of speech alone, at every
        frame: the statistics behind frame-wise emotions.

        Arguments
        ---------
        frames : torch.Tensor
            [B, T, H].
        lengths : torch.Tensor
            [B] frames, at least one each.
        span : int
            Frames of a stretch, odd; fewer at the utterance's ends.

        Yields
        ------
        torch.Tensor
            [B, at most 1500, E]: the T frames in order, 30 s at a time.
        """
        half = span // 2
        with torch.autocast(frames.device.type, enabled=False):
            weights = self._relative_weights(frames, lengths)
        for start in range(0, frames.shape[1], WINDOW_FRAMES):
            first, end = max(0, start - half), start + WINDOW_FRAMES
            stretch = slice(first, end + half)
            with torch.autocast(frames.device.type, enabled=False):
                pooled = self.result(
                    _moving(
                        frames[:, stretch].float(), weights[:, stretch], span
                    )
                )
            yield pooled[:, start - first : end - first]

    def scores(self, frames: Tensor) -> Tensor:
        """Logarithms of the weights of frames [N, T, H], [N, T, 1]."""
        return frames.new_zeros(*frames.shape[:-1], 1)

    def _relative_weights(self, frames, lengths):
        """[B, T, 1] weights; an utterance's greatest is one."""
        scores = [
            self.scores(part.float())
            for part in frames.split(WINDOW_FRAMES, dim=1)
        ]
        mask = frame_mask(lengths, frames.shape[1]).unsqueeze(-1)
        scores = torch.cat(scores, dim=1).masked_fill(~mask, -torch.inf)
        # Subtracting the highest score changes no ratio in _moving.
        weights = (scores - scores.amax(dim=1, keepdim=True)).exp()
        return weights.clamp(min=VARIANCE_FLOOR) * mask


class AttentiveStatisticsPooling(StatisticsPooling):
    r"""Attention-weighted mean and standard deviation of each channel.

    .. math::

        \alpha_t &= \mathrm{softmax}_t(v^\top \tanh(W z_t + b)) \\
        \mu &= \sum_t \alpha_t z_t, \quad
        \sigma = \sqrt{\sum_t \alpha_t (z_t - \mu)^2 + \epsilon}

    after Okabe et al., arXiv 1803.10963.

    Arguments
    ---------
    width : int
        As of ``StatisticsPooling``.
    hidden : int
        Inner width of the attention.

    Example
    -------
    >>> pool = AttentiveStatisticsPooling(width=6, hidden=4)
    >>> pool(torch.randn(2, 7, 6), torch.tensor([7, 3])).shape
    torch.Size([2, 12])
    """

    def __init__(self, width: int, hidden: int = 64):
        super().__init__(width)
        self.attention = nn.Sequential(
            nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )

    def scores(self, frames: Tensor) -> Tensor:
        """Logarithms of the weights of frames [N, T, H], [N, T, 1]."""
        return self.attention(frames)


class AveragePooling(StatisticsPooling):
    """Mean of an utterance's frames: the head that attention has to beat.

    Arguments
    ---------
    width : int
        H of the frames and E of the vector.
    """

    def __init__(self, width: int):
        super().__init__(width)
        self.embedding_width = width

    def result(self, statistics: Statistics) -> Tensor:
        """Statistics → vectors [N, H]: means."""
        return statistics.mean


class BlockStatistics(StatisticsPooling):
    """Mean and standard deviation of each channel of some blocks.

    A fusion trained on few speakers generalises less well to others than
    these statistics; a classifier with both is best (figures in the RAVDESS
    recipe's README). Takes hidden states, block → [N, T, D], as frames.

    Arguments
    ---------
    blocks : sequence of int
        K, counted from 1; 0 is the input of block 1.
    d_model : int
        D, the encoder's width; the vector has E = 2 K D.

    Raises
    ------
    QieemoError
        No block, or one given twice.

    Example
    -------
    >>> statistics = BlockStatistics(blocks=[1, 2], d_model=4)
    >>> hidden = {1: torch.randn(2, 3, 4), 2: torch.randn(2, 3, 4)}
    >>> statistics(hidden, torch.tensor([3, 1])).shape
    torch.Size([2, 16])
    """

    def __init__(self, blocks: Sequence[int], d_model: int):
        check_distinct(blocks)
        super().__init__(len(blocks) * d_model)
        self.blocks = list(blocks)

    def update(  # type: ignore[override]  # blocks for frames
        self, hidden_states: dict[int, Tensor], lengths: Tensor
    ) -> Statistics:
        """Statistics of windows; see ``StatisticsPooling.update``.

        Block by block: joining them first would be a large copy.
        """
        each = [
            super(BlockStatistics, self).update(hidden_states[k], lengths)
            for k in self.blocks
        ]
        means, variances, weights = zip(*each, strict=True)
        return Statistics(
            torch.cat(means, -1), torch.cat(variances, -1), weights[0]
        )

    def frames(self, hidden_states: dict[int, Tensor]) -> Tensor:
        """Blocks → [N, T, D] each → [N, T, K D], side by side."""
        return torch.cat([hidden_states[k] for k in self.blocks], dim=-1)


POOLINGS = {
    "StatisticsPooling": StatisticsPooling,
    "AttentiveStatisticsPooling": AttentiveStatisticsPooling,
    "AveragePooling": AveragePooling,
    "BlockStatistics": BlockStatistics,
}


def moving_mean(x: Tensor, span: int) -> Tensor:
    """Mean of ``span`` frames (odd) around every frame of x [B, T, *].

    Zeros are put beyond the ends.
    """
    mean = avg_pool1d(x.transpose(1, 2), span, stride=1, padding=span // 2)
    return mean.transpose(1, 2)


def _weighted(frames, scores):
    """Statistics [H], [H], [1] of frames [T, H] with log-weights [T, 1]."""
    # A matrix product, because a sum along the first axis is slower and leaves
    # large intermediate results in memory.
    weights = scores.softmax(dim=0).T
    mean = weights @ frames
    variance = weights @ (frames - mean).square()
    return mean[0], variance[0], scores.logsumexp(dim=0)


def _moving(frames, weights, span):
    """Statistics [B, T, H] of ``span`` weighted frames around each."""
    # A difference of squares is inaccurate far from zero: centre first.
    heavy = weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    centre = (weights * frames).sum(dim=1, keepdim=True) / heavy
    frames = frames - centre
    total = moving_mean(weights, span).clamp(min=1e-12)
    mean = moving_mean(weights * frames, span) / total
    square = moving_mean(weights * frames.square(), span) / total
    variance = (square - mean.square()).clamp(min=0.0)
    return Statistics(mean + centre, variance, total.log())

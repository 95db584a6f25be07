"""Masked statistics pooling, plain or attentive: frames → one vector."""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import islice

import torch
from torch.nn.functional import avg_pool1d

from qieemo_sb.frames import WINDOW_FRAMES, frame_mask
from qieemo_sb.rebuild import Rebuildable

VARIANCE_FLOOR = 1e-6  # keeps the gradient of a square root finite


def moving_mean(x: torch.Tensor, span: int) -> torch.Tensor:
    """Mean of ``span`` frames around every frame, zeros beyond the ends.

    Arguments
    ---------
    x : torch.Tensor
        [B, T, *].
    span : int
        Frames, odd.

    Returns
    -------
    torch.Tensor
        [B, T, *].

    Raises
    ------
    ValueError
        ``span`` is even.
    """
    if span % 2 == 0:
        raise ValueError(f"A span of {span} frames has no middle one.")
    mean = avg_pool1d(x.transpose(1, 2), span, stride=1, padding=span // 2)
    return mean.transpose(1, 2)


class StatisticsPooling(Rebuildable):
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

    def forward(
        self, frames: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Pool an utterance's frames.

        Arguments
        ---------
        frames : torch.Tensor
            [B, T, H].
        lengths : torch.Tensor
            [B] frames, at least one each.

        Returns
        -------
        torch.Tensor
            [B, 2 H]: means, then standard deviations.
        """
        return self._vector(*self.statistics(frames, lengths)[:2])

    def statistics(
        self, frames: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What ``join`` needs of each of an utterance's windows.

        Arguments
        ---------
        frames : torch.Tensor
            [N, T, H] of N windows.
        lengths : torch.Tensor
            [N] frames, at least one each.

        Returns
        -------
        means : torch.Tensor
            [N, H].
        variances : torch.Tensor
            [N, H].
        scores : torch.Tensor
            [N, 1] log of the weight that the window's frames have together.
        """
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.float()
            scores = self._scores(frames)
            rows = [
                _weighted(own[:size], score[:size])
                for own, score, size in zip(
                    frames, scores, lengths.tolist(), strict=True
                )
            ]
        return tuple(map(torch.stack, zip(*rows, strict=True)))

    def join(
        self,
        statistics: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
        counts: Sequence[int],
    ) -> torch.Tensor:
        """Pool utterances whose windows came one after the other.

        The same as ``forward`` on all of an utterance's frames, which need not
        be held at once.

        Arguments
        ---------
        statistics : sequence of tuple
            What ``statistics`` gave, in order.
        counts : sequence of int
            Windows of each of the B utterances.

        Returns
        -------
        torch.Tensor
            [B, 2 H].
        """
        means, variances, scores = map(torch.cat, zip(*statistics, strict=True))
        if max(counts) > 1:
            each = (x.split(1) for x in (means, variances, scores))
            windows = zip(*each, strict=True)
            joined = [reduce(merge, islice(windows, n)) for n in counts]
            means, variances, _ = map(torch.cat, zip(*joined, strict=True))
        return self._vector(means, variances)

    def around(
        self, frames: torch.Tensor, lengths: torch.Tensor, span: int
    ) -> Iterator[torch.Tensor]:
        """Pool ``span`` frames around every frame, with the same weights.

        What ``forward`` would give for that stretch of speech alone, at every
        frame: the statistics behind frame-wise emotions.

        Arguments
        ---------
        frames : torch.Tensor
            [B, T, H].
        lengths : torch.Tensor
            [B] frames, at least one each.
        span : int
            Frames a stretch has, odd; fewer at the utterance's ends.

        Yields
        ------
        torch.Tensor
            [B, at most 1500, 2 H]: the T frames in order, 30 s at a time.

        Raises
        ------
        ValueError
            ``span`` is even.
        """
        if span % 2 == 0:
            raise ValueError(f"A span of {span} frames has no middle one.")
        return self._around(frames, lengths, span)

    def _around(self, frames, lengths, span):
        with torch.autocast(frames.device.type, enabled=False):
            weights = self._relative_weights(frames, lengths)
        for start in range(0, frames.shape[1], WINDOW_FRAMES):
            first = max(0, start - span // 2)
            end = start + WINDOW_FRAMES
            stretch = slice(first, end + span // 2)
            with torch.autocast(frames.device.type, enabled=False):
                mean, variance = _moving(
                    frames[:, stretch].float(), weights[:, stretch], span
                )
                pooled = self._vector(mean, variance)
            yield pooled[:, start - first : end - first]

    def _relative_weights(self, frames, lengths):
        """[B, T, 1] weights; an utterance's greatest is one."""
        scores = [
            self._scores(part.float())
            for part in frames.split(WINDOW_FRAMES, dim=1)
        ]
        mask = frame_mask(lengths, frames.shape[1]).unsqueeze(-1)
        scores = torch.cat(scores, dim=1).masked_fill(~mask, -torch.inf)
        # The best score of the utterance cancels in the ratios of _moving.
        weights = (scores - scores.amax(dim=1, keepdim=True)).exp()
        return weights.clamp(min=VARIANCE_FLOOR) * mask

    def _vector(self, mean, variance):
        """Statistics [..., H] each → [..., 2 H]."""
        deviation = (variance + VARIANCE_FLOOR).sqrt()
        return torch.cat([mean, deviation], dim=-1)

    def _scores(self, frames):
        """[B, T, 1] logarithms of weights, but for a constant."""
        return frames.new_zeros(*frames.shape[:-1], 1)


class AttentiveStatisticsPooling(StatisticsPooling):
    r"""Attention-weighted mean and standard deviation of each channel.

    .. math::

        \alpha_t &= \mathrm{softmax}_t(v^\top \tanh(W z_t + b)) \\
        \mu &= \sum_t \alpha_t z_t, \quad
        \sigma = \sqrt{\sum_t \alpha_t (z_t - \mu)^2 + \epsilon}

    after Okabe et al., arXiv 1803.10963. Frames past an utterance's end have
    weight zero. Computed in float32.

    Arguments
    ---------
    width : int
        H of the frames; the vector has E = 2 H.
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
        self.attention = torch.nn.Sequential(
            torch.nn.Linear(width, hidden),
            torch.nn.Tanh(),
            torch.nn.Linear(hidden, 1),
        )

    def _scores(self, frames):
        return self.attention(frames)


def merge(
    first: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    second: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Statistics of two windows as if they had been one.

    Arguments
    ---------
    first, second : tuple
        What ``StatisticsPooling.statistics`` gave of each, N = 1.

    Returns
    -------
    tuple
        The same for both together.
    """
    both = zip(first, second, strict=True)
    means, variances, scores = map(torch.cat, both)  # [2, *]
    weights = scores.softmax(dim=0)
    mean = (weights * means).sum(dim=0, keepdim=True)
    variances = variances + (means - mean).square()
    variance = (weights * variances).sum(dim=0, keepdim=True)
    return mean, variance, scores.logsumexp(dim=0, keepdim=True)


def _weighted(frames, scores):
    """Statistics [H], [H], [1] of frames [T, H] with log-weights [T, 1]."""
    # Products with a row of weights: sums along the first axis are slower, and
    # leave large intermediate results in memory.
    weights = scores.softmax(dim=0).T
    mean = weights @ frames
    variance = weights @ (frames - mean).square()
    return mean[0], variance[0], scores.logsumexp(dim=0)


def _moving(frames, weights, span):
    """Mean, variance [B, T, H] of ``span`` weighted frames around each."""
    # A difference of squares loses what lies far from zero: centre first.
    heavy = weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    centre = (weights * frames).sum(dim=1, keepdim=True) / heavy
    frames = frames - centre
    total = moving_mean(weights, span).clamp(min=1e-12)
    mean = moving_mean(weights * frames, span) / total
    square = moving_mean(weights * frames.square(), span) / total
    variance = (square - mean.square()).clamp(min=0.0)
    return mean + centre, variance


class AveragePooling(StatisticsPooling):
    """Mean of an utterance's frames: the head that attention has to beat.

    Frames past an utterance's end do not count. Computed in float32.

    Arguments
    ---------
    width : int
        H of the frames and E of the vector.

    Example
    -------
    >>> import torch
    >>> pool = AveragePooling(width=6)
    >>> pool(torch.randn(2, 7, 6), torch.tensor([7, 3])).shape
    torch.Size([2, 6])
    """

    def __init__(self, width: int):
        super().__init__(width)
        self.embedding_width = width

    def _vector(self, mean, variance):
        """Statistics [..., H] each → [..., H]."""
        return mean


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

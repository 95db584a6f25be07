"""Masked attentive statistics pooling: frames → one vector an utterance.

Authors
 * The Qieemo-SB authors 2026
"""

import torch
from torch.nn.functional import avg_pool1d

from qieemo_sb.frames import frame_mask
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


class AttentiveStatisticsPooling(Rebuildable):
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
        super().__init__()
        self.width = width
        self.embedding_width = 2 * width
        self.attention = torch.nn.Sequential(
            torch.nn.Linear(width, hidden),
            torch.nn.Tanh(),
            torch.nn.Linear(hidden, 1),
        )

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
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.float()
            scores = self.attention(frames)  # [B, T, 1]
            mask = frame_mask(lengths, frames.shape[1]).unsqueeze(-1)
            weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=1)
            mean = (weights * frames).sum(dim=1)
            centred = frames - mean.unsqueeze(1)
            variance = (weights * centred.square()).sum(dim=1)
            return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=-1)

    def around(
        self, frames: torch.Tensor, lengths: torch.Tensor, span: int
    ) -> torch.Tensor:
        """Pool ``span`` frames around every frame, with the same attention.

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

        Returns
        -------
        torch.Tensor
            [B, T, 2 H].

        Raises
        ------
        ValueError
            ``span`` is even.
        """
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.float()
            mask = frame_mask(lengths, frames.shape[1]).unsqueeze(-1)
            scores = self.attention(frames).masked_fill(~mask, -torch.inf)
            # The best score of the utterance cancels in the ratios below.
            weights = (scores - scores.amax(dim=1, keepdim=True)).exp()
            weights = weights.clamp(min=VARIANCE_FLOOR) * mask
            total = moving_mean(weights, span).clamp(min=1e-12)
            mean = moving_mean(weights * frames, span) / total
            square = moving_mean(weights * frames.square(), span) / total
            variance = (square - mean.square()).clamp(min=0.0)
            return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=-1)

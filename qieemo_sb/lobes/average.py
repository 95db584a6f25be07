"""Average pooling: every frame weighs the same.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Iterator, Sequence

import torch

from qieemo_sb.frames import frame_mask
from qieemo_sb.lobes.pooling import moving_mean
from qieemo_sb.rebuild import Rebuildable


class AveragePooling(Rebuildable):
    """Mean of an utterance's frames: the head that attention has to beat.

    Frames past an utterance's end do not count. Computed in float32.

    Arguments
    ---------
    width : int
        H of the frames and E of the vector.

    Example
    -------
    >>> pool = AveragePooling(width=6)
    >>> pool(torch.randn(2, 7, 6), torch.tensor([7, 3])).shape
    torch.Size([2, 6])
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.embedding_width = width

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
            [B, H].
        """
        return self.statistics(frames, lengths)[0]

    def statistics(
        self, frames: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
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
        sizes : torch.Tensor
            [N, 1] frames.
        """
        with torch.autocast(frames.device.type, enabled=False):
            mask = frame_mask(lengths, frames.shape[1]).unsqueeze(-1)
            kept = frames.float().masked_fill(~mask, 0.0)
            sizes = mask.sum(dim=1)
            return kept.sum(dim=1) / sizes, sizes

    def join(
        self,
        statistics: Sequence[tuple[torch.Tensor, torch.Tensor]],
        counts: Sequence[int],
    ) -> torch.Tensor:
        """Pool utterances whose windows came one after the other.

        Arguments
        ---------
        statistics : sequence of tuple
            What ``statistics`` gave, in order.
        counts : sequence of int
            Windows of each of the B utterances.

        Returns
        -------
        torch.Tensor
            [B, H].
        """
        means, sizes = map(torch.cat, zip(*statistics, strict=True))
        sums = (means * sizes).split(counts)
        totals = sizes.split(counts)
        pairs = zip(sums, totals, strict=True)
        return torch.stack([s.sum(dim=0) / n.sum(dim=0) for s, n in pairs])

    def around(
        self, frames: torch.Tensor, lengths: torch.Tensor, span: int
    ) -> Iterator[torch.Tensor]:
        """Pool ``span`` frames around every frame.

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
        iterator of torch.Tensor
            [B, T, H] in one piece; what lies past the lengths means nothing.

        Raises
        ------
        ValueError
            ``span`` is even.
        """
        with torch.autocast(frames.device.type, enabled=False):
            mask = frame_mask(lengths, frames.shape[1]).unsqueeze(-1)
            kept = frames.float().masked_fill(~mask, 0.0)
            share = moving_mean(mask.float(), span)
            return iter([moving_mean(kept, span) / share.clamp(min=1e-12)])

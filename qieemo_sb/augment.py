"""Random crops: another stretch of each utterance every epoch.

Authors
 * The Qieemo-SB authors 2026
"""

import torch


def random_crop(
    x: torch.Tensor, lengths: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a random stretch out of each utterance that is longer than it.

    Arguments
    ---------
    x : torch.Tensor
        [B, T, *], samples or frames.
    lengths : torch.Tensor
        [B] absolute lengths.
    size : int
        The most that is left of an utterance.

    Returns
    -------
    torch.Tensor
        [B, min(T, size), *].
    torch.Tensor
        [B] absolute lengths.

    Example
    -------
    >>> x, lengths = random_crop(torch.ones(2, 5), torch.tensor([5, 2]), 3)
    >>> x.shape, lengths
    (torch.Size([2, 3]), tensor([3, 2]))
    """
    size = min(size, x.shape[1])
    room = (lengths - size).clamp(min=0) + 1
    starts = (torch.rand(len(x)) * room.cpu()).long().tolist()
    rows = [
        row[start : start + size] for row, start in zip(x, starts, strict=True)
    ]
    return torch.stack(rows), lengths.clamp(max=size)

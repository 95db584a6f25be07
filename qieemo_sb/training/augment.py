"""Random crops: another stretch of each utterance every epoch."""

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
    starts = crop_starts(lengths, size)
    rows = [
        row[start : start + size] for row, start in zip(x, starts, strict=True)
    ]
    return torch.stack(rows), lengths.clamp(max=size)


def crop_starts(lengths: torch.Tensor, size: int) -> list[int]:
    """Where random stretches begin; 0 for what is not longer than they.

    Arguments
    ---------
    lengths : torch.Tensor
        [B] absolute lengths.
    size : int
        Of a stretch.

    Returns
    -------
    list of int
        B places, each equally likely.
    """
    room = (lengths.cpu() - size).clamp(min=0) + 1
    return (torch.rand(len(lengths)) * room).long().tolist()

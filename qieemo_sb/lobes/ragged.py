"""Packed batches: the frames of all utterances one after the other.

Linear layers and norms see real frames only, and attention runs within each
utterance. No time goes to padding, and a clip gets the same numbers alone and
in a batch. With masked attention over a padded batch it would not: that rounds
differently, by up to 1e-3 where activations reach some hundreds.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention


def pack(x: Tensor, lengths: list[int]) -> Tensor:
    """Padded frames [B, T, D] of B ``lengths`` → packed frames [ΣT, D]."""
    if min(lengths) == x.shape[1]:
        return x.flatten(0, 1)
    rows = zip(x, lengths, strict=True)
    return torch.cat([row[:size] for row, size in rows])


def unpack(packed: Tensor, lengths: list[int], frames: int) -> Tensor:
    """Packed frames [ΣT, D] → [B, frames, D], zero past the lengths."""
    if min(lengths) == frames:
        return packed.view(len(lengths), frames, -1)
    rows = packed.split(lengths)
    return torch.stack([pad(row, (0, 0, 0, frames - len(row))) for row in rows])


def packed_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: list[int],
    heads: int,
    scale: float | None = None,
) -> Tensor:
    """Multi-head attention within each utterance of a packed batch.

    Arguments
    ---------
    queries, keys, values : torch.Tensor
        [ΣT, D] each.
    lengths : list of int
        Frames of each utterance; they add up to ΣT.
    heads : int
        D is split among them.
    scale : float or None
        Factor on the scores; None: ``(D / heads) ** -0.5``.

    Returns
    -------
    torch.Tensor
        [ΣT, D].

    Example
    -------
    >>> x = torch.randn(5, 4)
    >>> packed_attention(x, x, x, [2, 3], heads=2).shape
    torch.Size([5, 4])
    """

    def attend(q, k, v, batch):
        q, k, v = (
            x.view(batch, -1, heads, x.shape[-1] // heads).transpose(1, 2)
            for x in (q, k, v)
        )  # [N, heads, T, D / heads]
        out = scaled_dot_product_attention(q, k, v, scale=scale)
        return out.transpose(1, 2).flatten(2).flatten(0, 1)  # [N * T, D]

    if min(lengths) == max(lengths):
        return attend(queries, keys, values, len(lengths))
    split = (x.split(lengths) for x in (queries, keys, values))
    return torch.cat(
        [attend(q, k, v, 1) for q, k, v in zip(*split, strict=True)]
    )

"""Augmentation: random crops, other speeds, holes in the spectrogram."""

from collections.abc import Sequence

import torch
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.freq_domain import SpectrogramDrop
from speechbrain.augment.time_domain import SpeedPerturb
from torch.nn.utils.rnn import pad_sequence

from qieemo_sb.frames import SAMPLE_RATE


def random_crop(
    rows: Sequence[torch.Tensor], size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a random stretch out of each utterance that is longer than it.

    Arguments
    ---------
    rows : sequence of torch.Tensor
        B utterances [T, *], samples or frames; of a memory map, only the
        stretch is read.
    size : int
        Most samples or frames that are left of an utterance.

    Returns
    -------
    torch.Tensor
        [B, T, *], T at most ``size``, zero past the lengths.
    torch.Tensor
        [B] absolute lengths.

    Example
    -------
    >>> x, lengths = random_crop([torch.ones(5), torch.ones(2)], 3)
    >>> x.shape, lengths
    (torch.Size([2, 3]), tensor([3, 2]))
    """
    lengths = torch.tensor([len(row) for row in rows])
    room = (lengths - size).clamp(min=0) + 1
    starts = (torch.rand(len(rows)) * room).long().tolist()
    stretches = [
        row[start : start + size]
        for row, start in zip(rows, starts, strict=True)
    ]
    return pad_sequence(stretches, batch_first=True), lengths.clamp(max=size)


def speed_perturb(speeds: Sequence[int]) -> Augmenter:
    """Resample each batch to one of some speeds, in percent."""
    return Augmenter(augmentations=[SpeedPerturb(SAMPLE_RATE, list(speeds))])


def spectrogram_drops() -> torch.nn.Sequential:
    """Replace one stretch of mel frames and one of channels by the mean.

    Returns
    -------
    torch.nn.Sequential
        Log-mel [B, M, n_mels] of 10 ms frames → the same.
    """
    # Shortest and longest stretch; one of each.
    return torch.nn.Sequential(
        SpectrogramDrop(5, 30, 1, 2, replace="mean", dim=1),
        SpectrogramDrop(3, 12, 1, 2, replace="mean", dim=2),
    )

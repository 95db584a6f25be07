"""The clock: samples, mel frames of 10 ms and encoder frames of 20 ms.

Every other module calls these functions instead of dividing by itself. Torch
is not imported, so that counting needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qieemo_sb.errors import AudioError

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000  # samples per second
MEL_HOP = 160  # samples per mel frame: 10 ms
FRAME_HOP = 320  # samples per encoder frame: 20 ms
N_FFT = 400  # samples in one analysis window: 25 ms
MIN_SAMPLES = N_FFT  # the shortest utterance that has a frame: one window
WINDOW_FRAMES = 1_500  # the most frames encoded in one go: 30 s
WINDOW_SAMPLES = WINDOW_FRAMES * FRAME_HOP  # 480 000
ROUNDING = 1e-3  # by which a relative length may exceed one
FRAME_SECONDS = FRAME_HOP / SAMPLE_RATE  # 0.02


def num_mel_frames(num_samples):
    """Mel frames of an utterance.

    Arguments
    ---------
    num_samples : int or torch.Tensor
        Length in samples at 16 kHz.

    Returns
    -------
    int or torch.Tensor
        ``S // 160``, as transformers' Whisper feature extractor counts.

    Example
    -------
    >>> num_mel_frames(16_000)
    100
    """
    return num_samples // MEL_HOP


def num_frames(num_samples):
    """Encoder frames of an utterance: ``T = (S // 160 + 1) // 2``.

    Arguments
    ---------
    num_samples : int or torch.Tensor
        Length in samples at 16 kHz.

    Returns
    -------
    int or torch.Tensor
        Number of 20 ms frames.

    Example
    -------
    >>> num_frames(16_000), num_frames(480_000)
    (50, 1500)
    """
    return (num_mel_frames(num_samples) + 1) // 2


def absolute_lengths(relative: torch.Tensor, size: int) -> torch.Tensor:
    """Absolute lengths from SpeechBrain's relative ones.

    Arguments
    ---------
    relative : torch.Tensor
        [B], each in (0, 1], relative to ``size``.
    size : int
        Length of the padded axis (samples or frames).

    Returns
    -------
    torch.Tensor
        [B] int64. Computed in float64, so a length survives the round trip
        through a float32 ratio up to eight million samples.

    Raises
    ------
    AudioError
        A length is no fraction, or they are not [B].

    Example
    -------
    >>> import torch
    >>> absolute_lengths(torch.tensor([1.0, 0.5]), 7)
    tensor([7, 4])
    """
    if relative.dim() != 1:
        shape = list(relative.shape)
        raise AudioError(f"wav_lens must be [B], not of shape {shape}.")
    for row, length in enumerate(relative.tolist()):
        if not 0 <= length <= 1 + ROUNDING:
            raise AudioError(
                f"wav_lens are fractions of the longest row; that of row {row} "
                f"is {length:g}. Divide samples by the most of them."
            )
    lengths = (relative.double() * size).round().long()
    return lengths.clamp(min=0, max=size)


def frame_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Mask of real frames: True before each length.

    Arguments
    ---------
    lengths : torch.Tensor
        [B] absolute lengths.
    size : int
        T, the padded length.

    Returns
    -------
    torch.Tensor
        [B, T] bool.

    Example
    -------
    >>> import torch
    >>> frame_mask(torch.tensor([1, 2]), 2)
    tensor([[ True, False],
            [ True,  True]])
    """
    positions = lengths.new_ones(size).cumsum(0)  # 1 … T
    return positions <= lengths.unsqueeze(1)


def frame_windows(frames: int) -> list[tuple[int, int]]:
    """Cut T frames into windows of at most 30 s.

    Windows of 30 s while more than 60 s are left, then one or two equal ones:
    a stream can be cut before its end is known, and none is short.

    Arguments
    ---------
    frames : int
        T.

    Returns
    -------
    list of (int, int)
        ``(start, end)`` in frames, in order. They depend on T alone, so
        waveforms and cached frames are cut at the same places.

    Example
    -------
    >>> frame_windows(1_500)
    [(0, 1500)]
    >>> frame_windows(2_000)  # 40 s: twice 20 s, not 30 s and 10 s
    [(0, 1000), (1000, 2000)]
    >>> frame_windows(3_500)
    [(0, 1500), (1500, 2500), (2500, 3500)]
    """
    whole = max(0, -(-frames // WINDOW_FRAMES) - 2)
    borders = [i * WINDOW_FRAMES for i in range(whole + 1)]
    rest = frames - borders[-1]
    if rest > WINDOW_FRAMES:
        borders.append(borders[-1] + rest // 2)
    return list(zip(borders, [*borders[1:], frames], strict=True))


def sample_windows(num_samples: int) -> list[tuple[int, int]]:
    """Cut an utterance into windows of at most 30 s.

    Arguments
    ---------
    num_samples : int
        Length in samples.

    Returns
    -------
    list of (int, int)
        ``(start, end)`` in samples: the borders of ``frame_windows``, so the
        windows' frames add up to ``num_frames(num_samples)``.

    Example
    -------
    >>> sample_windows(640_000)
    [(0, 320000), (320000, 640000)]
    """
    windows = frame_windows(num_frames(num_samples))
    spans = [(start * FRAME_HOP, end * FRAME_HOP) for start, end in windows]
    return [*spans[:-1], (spans[-1][0], num_samples)]

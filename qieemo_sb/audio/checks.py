"""Checks of samples, before a model gets them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qieemo_sb.audio.decode import audio_error
from qieemo_sb.errors import AudioError
from qieemo_sb.frames import MIN_SAMPLES

if TYPE_CHECKING:
    import torch

LOUDEST = 1e15  # of a sample: beyond, the power of a spectrum is infinite


def check_signal(path: str | Path, signal: np.ndarray) -> None:
    """Raise AudioError for samples [S] that no model can use.

    They are NaN, infinite or beyond 1e15, or last less than 25 ms at 16 kHz.
    """
    if len(signal) < MIN_SAMPLES:
        problem = (
            f"is too short: {len(signal)} samples at 16 kHz, at least "
            f"{MIN_SAMPLES} (25 ms) are needed"
        )
        raise audio_error(path, problem, "drop it")
    if not _is_finite(signal):
        problem = f"holds samples that are NaN, infinite or beyond {LOUDEST:g}"
        raise audio_error(path, problem, "export it again or drop it")


def check_batch(
    wavs: np.ndarray | torch.Tensor,
    lengths: Sequence[int] | np.ndarray | torch.Tensor | None = None,
) -> list[int]:
    """Check a batch of waveforms, without a copy of it.

    Arguments
    ---------
    wavs : np.ndarray or torch.Tensor
        [B, S] at 16 kHz. Samples past an utterance's end may be anything.
    lengths : sequence of int, np.ndarray, torch.Tensor or None
        [B] samples of each utterance; None: every row is full.

    Returns
    -------
    list of int
        The lengths.

    Raises
    ------
    AudioError
        Not [B, S], no utterance, integer samples, other than B whole lengths,
        or an utterance that is shorter than 25 ms or has samples that are
        NaN, infinite or beyond 1e15. The message names the row.
    """
    if len(wavs.shape) != 2:
        raise AudioError(f"Waveforms must be [B, S], not {tuple(wavs.shape)}.")
    if len(wavs) == 0:
        raise AudioError("The batch has no utterance.")
    if "float" not in str(wavs.dtype):  # -1 to 1, or -32768 to 32767?
        raise AudioError(
            f"Waveforms are {wavs.dtype}: give floating-point samples from -1 "
            "to 1 (those of int16 divided by 32768)."
        )
    if lengths is None:
        lengths = [wavs.shape[1]] * len(wavs)
    # A tensor's tolist waits for a GPU once, not once a row.
    sizes = lengths.tolist() if hasattr(lengths, "tolist") else list(lengths)
    whole = all(isinstance(size, int | np.integer) for size in sizes)
    if not whole or len(sizes) != len(wavs):
        raise AudioError(
            f"lengths must be {len(wavs)} whole numbers of samples, one for "
            f"each utterance, not {sizes}."
        )
    for row, size in enumerate(sizes):
        if not MIN_SAMPLES <= size <= wavs.shape[1]:
            raise AudioError(
                f"Utterance {row} of the batch has {size} samples; at least "
                f"{MIN_SAMPLES} (25 ms at 16 kHz) are needed, and at most "
                f"{wavs.shape[1]} are there. Leave it out."
            )
    if _is_finite(wavs):
        return sizes
    # Perhaps that is only past an utterance's end.
    rows = [i for i, size in enumerate(sizes) if not _is_finite(wavs[i, :size])]
    if rows:
        raise AudioError(
            f"Utterances {rows} of the batch have samples that are NaN, "
            f"infinite or beyond {LOUDEST:g}. Repair the files or leave them "
            "out."
        )
    return sizes


def _is_finite(samples):
    """True if all samples are numbers of at most ``LOUDEST``."""
    # Both extremes are NaN if one sample is, and NaN is never less.
    return bool(max(-samples.min(), samples.max()) <= LOUDEST)

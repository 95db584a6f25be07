"""The contract that every ASR encoder keeps: waveforms in, blocks out."""

import dataclasses
from collections.abc import Callable, Iterable

import torch

from qieemo_sb.audio import LOUDEST, check_finite, check_lengths, check_relative
from qieemo_sb.frames import (
    FRAME_HOP,
    absolute_lengths,
    num_frames,
    sample_windows,
)
from qieemo_sb.rebuild import Rebuildable


@dataclasses.dataclass
class EncoderOutput:
    """What an encoder says of a batch.

    Arguments
    ---------
    hidden_states : dict of int to torch.Tensor
        ``hidden_states[k]`` is the output [B, T, D] of block k, counted from
        1; ``hidden_states[0]`` is the input of block 1. The final norm is
        applied to the last block only. Frames past ``lengths`` are zero.
    lengths : torch.Tensor
        [B] int64, frames of each utterance.
    """

    hidden_states: dict[int, torch.Tensor]
    lengths: torch.Tensor


class SpeechEncoder(Rebuildable):
    """Base of the encoders: lengths, windows, checks; children do the rest.

    A child sets ``d_model`` and ``n_blocks`` and writes ``encode``, which maps
    windows of at most 30 s to hidden states, and ``frozen_parts``; its
    constructor ends with ``freeze``.

    Arguments
    ---------
    trainable_above : int or None
        None freezes the encoder; 0 trains all of it; k trains the blocks
        above block k.
    """

    d_model: int
    n_blocks: int

    def __init__(self, trainable_above: int | None = None):
        super().__init__()
        self.trainable_above = trainable_above

    @property
    def frozen(self) -> bool:
        """True if no part of the encoder trains."""
        return self.trainable_above is None

    def frozen_parts(self) -> list[torch.nn.Module]:
        """Parts that ``trainable_above`` keeps from training."""
        raise NotImplementedError(f"{type(self).__name__} has no frozen_parts")

    def freeze(self) -> None:
        """Give frozen parts no gradient, and put them in eval mode.

        Raises
        ------
        ValueError
            ``trainable_above`` names a block that does not exist.
        """
        if not self.frozen:
            self.check_blocks([self.trainable_above])
        for part in self.frozen_parts():
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SpeechEncoder":
        """Set the mode of what trains; frozen parts stay in eval mode."""
        super().train(mode)
        for part in self.frozen_parts():
            part.eval()
        return self

    def num_frames(self, num_samples: int) -> int:
        """Frames [20 ms] that ``num_samples`` at 16 kHz become."""
        return num_frames(num_samples)

    def encode(
        self,
        wavs: torch.Tensor,
        samples: torch.Tensor,
        blocks: Iterable[int],
    ) -> dict[int, torch.Tensor]:
        """Hidden states of windows of at most 30 s.

        Arguments
        ---------
        wavs : torch.Tensor
            [N, S], zero past each row's length.
        samples : torch.Tensor
            [N] int64, lengths in samples.
        blocks : iterable of int
            Which hidden states are asked for.

        Returns
        -------
        dict of int to torch.Tensor
            k → [N, T, D], zero past each row's frames.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode")

    def compile_blocks(self, **options) -> None:
        """Have ``torch.compile`` compile what of the blocks it can.

        Arguments
        ---------
        **options
            Of ``torch.compile``.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be compiled")

    def forward(
        self,
        wavs: torch.Tensor,
        wav_lens: torch.Tensor | None = None,
        blocks: Iterable[int] | None = None,
    ) -> EncoderOutput:
        """Encode a batch of any length, each utterance as if it were alone.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S] at 16 kHz.
        wav_lens : torch.Tensor or None
            [B] relative lengths; None: every row is full.
        blocks : iterable of int or None
            Hidden states to return, 0 … ``n_blocks``; None: all of them.
            Blocks above the highest one asked for are not run.

        Returns
        -------
        EncoderOutput

        Raises
        ------
        ValueError
            An utterance is shorter than 25 ms or has samples that are NaN,
            infinite or beyond 1e15, or the lengths are no fractions.
        """
        blocks = sorted(range(self.n_blocks + 1) if blocks is None else blocks)
        self.check_blocks(blocks)
        stitched, lengths = self.map_windows(
            lambda encoded: encoded.hidden_states, wavs, wav_lens, blocks
        )
        return EncoderOutput(stitched, lengths)

    def map_windows(
        self,
        function: Callable[[EncoderOutput], dict],
        wavs: torch.Tensor,
        wav_lens: torch.Tensor | None,
        blocks: Iterable[int],
    ) -> tuple[dict, torch.Tensor]:
        """Apply a frame-wise function to every window and stitch its results.

        Memory stays that of a batch of 30 s windows and of the results,
        however long the audio is.

        Arguments
        ---------
        function : callable
            EncoderOutput of N windows → {key: [N, T, *]}. Called on windows
            in order: utterance by utterance, from start to end.
        wavs, wav_lens
            As in ``forward``.
        blocks : iterable of int
            Hidden states that ``function`` needs.

        Returns
        -------
        dict
            {key: [B, T, *]}.
        torch.Tensor
            [B] frames.
        """
        wavs, samples = check_waveforms(wavs, wav_lens)
        lengths = num_frames(samples)
        spans = [sample_windows(n) for n in samples.tolist()]
        windows = [(row, *span) for row, s in enumerate(spans) for span in s]
        stitched = {}
        # As many windows at once as the caller gave utterances.
        for first in range(0, len(windows), len(wavs)):
            group = windows[first : first + len(wavs)]
            rows, row_samples = _gather(wavs, group)
            hidden = self.encode(rows, row_samples, blocks)
            encoded = EncoderOutput(hidden, num_frames(row_samples))
            results = function(encoded)
            if len(windows) == len(wavs):
                return results, lengths
            _scatter(stitched, results, group, lengths)
        return stitched, lengths

    def check_blocks(self, blocks: Iterable[int]) -> None:
        """Raise ValueError for a block that this encoder does not have."""
        wrong = [k for k in blocks if not 0 <= k <= self.n_blocks]
        if wrong:
            raise ValueError(
                f"There is no block {wrong}: {type(self).__name__} has blocks "
                f"1 to {self.n_blocks} (0 is the input of block 1)."
            )


def check_waveforms(
    wavs: torch.Tensor, wav_lens: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Check a batch without a copy of it.

    Arguments
    ---------
    wavs : torch.Tensor
        [B, S].
    wav_lens : torch.Tensor or None
        [B], relative.

    Returns
    -------
    torch.Tensor
        [B, S], no longer than the longest utterance. What lies past an
        utterance's end may be anything.
    torch.Tensor
        [B] int64, samples of each utterance.

    Raises
    ------
    ValueError
        See ``SpeechEncoder.forward``; the message names the row.
    """
    if wavs.dim() != 2:
        raise ValueError(f"Waveforms must be [B, S], not {tuple(wavs.shape)}.")
    if wav_lens is None:
        wav_lens = torch.ones(len(wavs), device=wavs.device)
    if len(wavs) == 0:
        raise ValueError("The batch has no utterance.")
    check_relative(wav_lens.shape, wav_lens.tolist(), len(wavs))
    samples = absolute_lengths(wav_lens.to(wavs.device), wavs.shape[1])
    sizes = samples.tolist()
    check_lengths(sizes)
    # Both are NaN if one sample is, and NaN is never less: no mask as large as
    # the audio is needed.
    extremes = [
        torch.stack(wav[:size].aminmax())
        for wav, size in zip(wavs, sizes, strict=True)
    ]
    sound = torch.stack(extremes).abs() <= LOUDEST
    check_finite(sound.all(dim=1).tolist())
    return wavs[:, : max(sizes)], samples


def _gather(wavs, windows):
    """Windows (row, start, end) as a padded batch [N, S] and lengths [N]."""
    sizes = [end - start for _, start, end in windows]
    samples = torch.tensor(sizes, device=wavs.device)
    if sizes == [wavs.shape[1]] * len(wavs):
        return wavs, samples  # each is a whole row
    pieces = [wavs[row, start:end] for row, start, end in windows]
    return torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True), samples


def _scatter(stitched, results, windows, lengths):
    """Write windows' results at their frames of {key: [B, T, *]}."""
    for key, values in results.items():
        if key not in stitched:
            shape = (len(lengths), int(lengths.max()), *values.shape[2:])
            stitched[key] = values.new_zeros(shape)
        for value, (row, start, end) in zip(values, windows, strict=True):
            first, frames = start // FRAME_HOP, num_frames(end - start)
            stitched[key][row, first : first + frames] = value[:frames]

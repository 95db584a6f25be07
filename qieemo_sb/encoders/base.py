"""The contract of every ASR encoder: waveforms in, hidden states out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from qieemo_sb.audio import check_batch
from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import (
    FRAME_HOP,
    WINDOW_FRAMES,
    frame_windows,
    num_frames,
    sample_windows,
)
from qieemo_sb.lobes import Part


@dataclasses.dataclass
class Window:
    """Hidden states of N windows of at most 30 s, encoded together.

    Arguments
    ---------
    rows : list of int
        The utterance of each window.
    starts : list of int
        First frame of each window in its utterance.
    hidden_states : dict of int to torch.Tensor
        Block → [N, T, D].
    lengths : torch.Tensor
        [N] frames.
    """

    rows: list[int]
    starts: list[int]
    hidden_states: dict[int, Tensor]
    lengths: Tensor


@dataclasses.dataclass
class EncoderOutput:
    """Hidden states of a batch.

    Arguments
    ---------
    hidden_states : dict of int to torch.Tensor
        ``hidden_states[k]`` is the output [B, T, D] of block k, counted from
        1; ``hidden_states[0]`` is the input of block 1. The final norm is
        applied to the last block only. Frames past ``lengths`` are zero.
    lengths : torch.Tensor
        [B] int64, frames of each utterance.
    """

    hidden_states: dict[int, Tensor]
    lengths: Tensor

    def windows(self) -> Iterator[Window]:
        """Cut into windows where an encoder cuts waveforms."""
        if int(self.lengths.max()) <= WINDOW_FRAMES:
            rows = list(range(len(self.lengths)))
            starts = [0] * len(rows)
            yield Window(rows, starts, self.hidden_states, self.lengths)
            return
        for row, frames in enumerate(self.lengths.tolist()):
            for start, end in frame_windows(frames):
                hidden = {
                    k: h[None, row, start:end]
                    for k, h in self.hidden_states.items()
                }
                size = self.lengths.new_tensor([end - start])
                yield Window([row], [start], hidden, size)


class Stitcher:
    """Puts frame-wise results of windows together, utterance by utterance.

    Arguments
    ---------
    lengths : torch.Tensor
        [B] frames of the utterances.
    """

    def __init__(self, lengths: Tensor):
        self.lengths = lengths
        self._stitched: dict[Any, Tensor] = {}

    def update(self, window: Window, results: dict[Any, Tensor]) -> None:
        """Add results {key: [N, T, *]} of a window."""
        if window.rows == list(range(len(self.lengths))):
            if torch.equal(window.lengths, self.lengths):  # the only window
                self._stitched = results
                return
        for key, values in results.items():
            if key not in self._stitched:
                shape = len(self.lengths), int(self.lengths.max())
                shape = *shape, *values.shape[2:]
                self._stitched[key] = values.new_zeros(shape)
            for i, size in enumerate(window.lengths.tolist()):
                row, start = window.rows[i], window.starts[i]
                whole = self._stitched[key][row]
                whole[start : start + size] = values[i, :size]

    def result(self) -> dict[Any, Tensor]:
        """Return {key: [B, T, *]}, zero past the lengths."""
        return self._stitched


class SpeechEncoder(Part):
    """Base of the encoders: lengths, windows, checks, freezing.

    A subclass sets ``d_model`` and ``n_blocks``, defines ``encode`` and
    ``frozen_parts``, and ends its constructor with ``freeze``. Its ``config``
    is its shape; the weights are in the model folder.

    Arguments
    ---------
    trainable_above : int or None
        None freezes the encoder; 0 trains all of it; k trains the blocks
        above block k.
    gradient_checkpointing : bool
        Recompute blocks in the backward pass: less memory, more time.
    """

    families: tuple[str, ...] = ()  # transformers' model types that it loads
    d_model: int
    n_blocks: int

    def __init__(
        self,
        trainable_above: int | None = None,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        for option in ("source", "trainable_above", "gradient_checkpointing"):
            self.config.pop(option, None)
        self.trainable_above = trainable_above
        self.gradient_checkpointing = gradient_checkpointing
        # A trainer may set it: maps features [N, T, *] in training, the
        # log-mel of Whisper, the projected ones that wav2vec 2.0 masks.
        self.spec_augment: Callable[[Tensor], Tensor] | None = None

    @property
    def frozen(self) -> bool:
        """True if no part of the encoder trains."""
        return self.trainable_above is None

    def frozen_parts(self) -> list[nn.Module]:
        """Parts that ``trainable_above`` keeps from training."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Give frozen parts no gradient, and put them in eval mode.

        Raises
        ------
        QieemoError
            ``trainable_above`` names a block that does not exist.
        """
        if self.trainable_above is not None:
            self.check_blocks([self.trainable_above], "trainable_above")
        for part in self.frozen_parts():
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SpeechEncoder:
        """Set the mode of trainable parts; frozen ones stay in eval mode."""
        super().train(mode)
        for part in self.frozen_parts():
            part.eval()
        return self

    def encode(
        self, wavs: Tensor, samples: Tensor, blocks: Iterable[int]
    ) -> dict[int, Tensor]:
        """Hidden states of windows of at most 30 s.

        Arguments
        ---------
        wavs : torch.Tensor
            [N, S], zero past each row's length.
        samples : torch.Tensor
            [N] int64, lengths in samples.
        blocks : iterable of int
            Hidden states to return.

        Returns
        -------
        dict of int to torch.Tensor
            k → [N, T, D], zero past each row's frames.
        """
        raise NotImplementedError

    def run_block(self, block: Callable, *inputs, **options) -> Any:
        """Run a block; recompute it in the backward pass if that is set."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, **options)
        return block(*inputs, **options)

    def compile_blocks(self, **options) -> None:
        """Compile the blocks with ``torch.compile`` and its ``options``."""
        raise QieemoError(f"{type(self).__name__} cannot be compiled.")

    def forward(
        self,
        wavs: Tensor,
        lengths: Tensor | None = None,
        blocks: Iterable[int] | None = None,
    ) -> EncoderOutput:
        """Encode a batch; each utterance gets the result it has alone.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S] at 16 kHz.
        lengths : torch.Tensor or None
            [B] samples of each utterance; None: every row is full.
        blocks : iterable of int or None
            Hidden states to return, 0 … ``n_blocks``; None: all of them.
            Blocks above the highest one asked for are not run.

        Returns
        -------
        EncoderOutput

        Raises
        ------
        QieemoError
            There is no such block.
        AudioError
            See ``check_batch``.
        """
        blocks = sorted(range(self.n_blocks + 1) if blocks is None else blocks)
        self.check_blocks(blocks, "blocks")
        windows, frames = self.windows(wavs, lengths, blocks)
        stitcher = Stitcher(frames)
        for window in windows:
            stitcher.update(window, window.hidden_states)
        return EncoderOutput(stitcher.result(), frames)

    def windows(
        self, wavs: Tensor, lengths: Tensor | None, blocks: Iterable[int]
    ) -> tuple[Iterator[Window], Tensor]:
        """Encode a batch window by window, as many at once as utterances.

        Memory does not grow with the length of the audio.

        Arguments
        ---------
        wavs, lengths, blocks
            As of ``forward``, as are errors.

        Returns
        -------
        windows : iterator of Window
            Utterance by utterance, from start to end.
        frames : torch.Tensor
            [B] frames of each utterance.
        """
        sizes = check_batch(wavs, lengths)
        frames = num_frames(torch.tensor(sizes, device=wavs.device))
        return self._windows(wavs[:, : max(sizes)], sizes, blocks), frames

    def _windows(self, wavs, sizes, blocks):
        spans = [
            (row, *span)
            for row, size in enumerate(sizes)
            for span in sample_windows(size)
        ]
        for first in range(0, len(spans), len(wavs)):
            group = spans[first : first + len(wavs)]
            pieces, samples = _gather(wavs, group)
            yield Window(
                rows=[row for row, _, _ in group],
                starts=[start // FRAME_HOP for _, start, _ in group],
                hidden_states=self.encode(pieces, samples, blocks),
                lengths=num_frames(samples),
            )

    def check_blocks(self, blocks: Iterable[int], option: str) -> None:
        """Raise QieemoError for a block that this encoder does not have."""
        wrong = [k for k in blocks if k not in range(self.n_blocks + 1)]
        if wrong:
            raise QieemoError(
                f"{option}: there is no block {wrong}; "
                f"{type(self).__name__} has blocks 1 to {self.n_blocks} (0 is "
                "the input of block 1)."
            )


def check_whole(source: str, family: str, missing: Iterable[str]) -> None:
    """Raise QieemoError for a checkpoint that lacks weights."""
    names = sorted(missing)
    if names:
        raise QieemoError(
            f"'{source}' is no whole {family}: it lacks {len(names)} encoder "
            f"weights ({names[0]}, …)."
        )


def _gather(wavs, spans):
    """Windows (row, start, end) as a padded batch [N, S] and lengths [N]."""
    pieces = [wavs[row, start:end] for row, start, end in spans]
    sizes = [len(piece) for piece in pieces]
    samples = torch.tensor(sizes, device=wavs.device)
    if sizes == [wavs.shape[1]] * len(wavs):
        return wavs, samples  # each is a whole row
    return pad_sequence(pieces, batch_first=True), samples

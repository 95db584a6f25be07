"""A model's computation on one window, as torch.onnx can export it.

    wav [1, S] ─ log-mel → convolutions → blocks ─ lobes ─ statistics
    statistics of the windows before ─────────────────────── merged ─► results

Lobes and Whisper's blocks run as they are. What is before the blocks is
written anew: without torch.stft, and with convolutions as products of
matrices, which onnxruntime computes faster.
"""

from __future__ import annotations

import copy
import math
import types
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from qieemo_sb.encoders import base
from qieemo_sb.encoders.whisper import (
    DYNAMIC_RANGE,
    LOG_FLOOR,
    WhisperEncoder,
)
from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import MEL_HOP, N_FFT, WINDOW_FRAMES, WINDOW_SAMPLES
from qieemo_sb.lobes.pooling import Statistics
from qieemo_sb.model import Qieemo
from qieemo_sb.serving.onnx.classifier import EMPTY

# Samples mirrored at the end of 30 s: the rest of the last analysis window,
# which is centred on the last hop.
MIRRORED = N_FFT // 2 - MEL_HOP
SMALLEST = 1e-6  # of a frame's maximum: keeps silence from dividing by zero


class ExportError(QieemoError):
    """A model cannot be exported."""


class ModelWindow(torch.nn.Module):
    """One window, and the statistics of the windows before it, → results.

    Arguments
    ---------
    model : Qieemo
        In eval mode.
    int8 : bool
        Prepare for products in 8 bits.

    Raises
    ------
    ExportError
        There is no such module for the model's encoder.
    """

    def __init__(self, model: Qieemo, int8: bool = False):
        super().__init__()
        if type(model.encoder) is not WhisperEncoder:
            raise ExportError(
                f"{type(model.encoder).__name__} cannot be exported, only "
                "WhisperEncoder."
            )
        self.model = model
        self.encoder = WhisperWindow(model.encoder, max(model.blocks), int8)

    def forward(
        self, wav: torch.Tensor, *before: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Run the model.

        Arguments
        ---------
        wav : torch.Tensor
            [1, S] at 16 kHz, at most 30 s.
        *before : torch.Tensor
            Mean [1, H], variance [1, H] and log-weight [1, 1] of each pooling
            over the windows before this one; see ``empty_statistics``.

        Returns
        -------
        tuple of torch.Tensor
            Log-probabilities [1, C] and embedding [1, E] of all windows up to
            this one, their statistics, and the PPG [1, T, V] of this window,
            if the model has one.
        """
        hidden = {k: x[None] for k, x in self.encoder(wav[0]).items()}
        sizes = [hidden[0].shape[1]]  # symbolic, which no tensor can hold
        lengths: Any = types.SimpleNamespace(tolist=lambda: sizes)
        streams = self.model.fuse(base.Window([0], [0], hidden, lengths))
        statistics = [
            Statistics(*before[3 * i : 3 * i + 3]).merge(new)
            for i, new in enumerate(self.model.pool(streams, lengths))
        ]
        embedding = self.model.embedding(statistics)
        results = [self.model.classifier(embedding), embedding]
        results += [value for merged in statistics for value in merged]
        return (*results, streams["ppg"]) if "ppg" in streams else (*results,)

    def empty_statistics(self) -> dict[str, torch.Tensor]:
        """Statistics of no windows, by the names of the graph's inputs."""
        empty = {}
        for name, pooling in self.model.poolings.items():
            empty[f"{name}_mean"] = torch.zeros(1, pooling.width)
            empty[f"{name}_variance"] = torch.zeros(1, pooling.width)
            empty[f"{name}_log_weight"] = torch.full((1, 1), EMPTY)
        return empty


class ByFrame(torch.nn.Linear):
    """A linear layer whose product is rounded to 8 bits frame by frame.

    Each frame is divided by its maximum before the product, and multiplied
    after it. In 8 bits all frames share one scale: behind a GELU a few of
    Whisper's are twenty times as large as the others, which would be left a
    handful of steps.

    Arguments
    ---------
    layer : torch.nn.Linear
        Its parameters are shared.
    """

    def __init__(self, layer: torch.nn.Linear):
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in_features] → [T, out_features]."""
        largest = x.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST)
        return F.linear(x / largest, self.weight) * largest + self.bias


class WhisperWindow(torch.nn.Module):
    """Whisper's encoder on one window.

    Arguments
    ---------
    encoder : WhisperEncoder
        Any.
    last : int
        The highest block to run.
    int8 : bool
        As of ``ModelWindow``.
    """

    def __init__(self, encoder: WhisperEncoder, last: int, int8: bool = False):
        super().__init__()
        self.log_mel = LogMelWindow(encoder)
        self.conv1 = _convolution(encoder.conv1)
        self.conv2 = _convolution(encoder.conv2)
        self.positions = encoder.positions.weight
        self.blocks = copy.deepcopy(encoder.blocks[:last])
        if int8:
            self.conv2 = ByFrame(self.conv2)
            for block in self.blocks:
                block.fc2 = ByFrame(block.fc2)
        self.norm = encoder.norm if last == encoder.n_blocks else None

    def forward(self, wav: torch.Tensor) -> dict[int, torch.Tensor]:
        """Samples [S] → block → [T, D]."""
        x = self.log_mel(wav)  # [M, n_mels]
        size = x.shape[0]  # len() would fix the number
        frames = (size + 1) // 2
        x = F.pad(x, (0, 0, 1, 1))
        x = torch.cat([x[:-2], x[1:-1], x[2:]], dim=1)
        x = F.gelu(self.conv1(x))  # [M, D]
        # The second convolution steps by two: pairs of frames become rows.
        x = F.pad(x, (0, 0, 1, 2 * frames + 1 - size))
        x = x.reshape(frames + 1, -1)  # [T + 1, 2 D]
        x = torch.cat([x[:-1], x[1:, : self.positions.shape[1]]], dim=1)
        x = F.gelu(self.conv2(x)) + self.positions[:frames]
        hidden = {0: x}
        for k, block in enumerate(self.blocks, start=1):
            x = hidden[k] = block(x, [frames])
        if self.norm is not None:
            hidden[len(self.blocks)] = self.norm(x)
        return hidden


def _convolution(conv):
    """A convolution of three frames, put side by side, as a linear layer."""
    layer = torch.nn.Linear(3 * conv.in_channels, conv.out_channels)
    weight = conv.weight.detach().transpose(1, 2).flatten(1)
    layer.weight, layer.bias = torch.nn.Parameter(weight), conv.bias
    return layer


class LogMelWindow(torch.nn.Module):
    """``qieemo_sb.encoders.whisper.LogMel`` of one window, without FFT.

    Arguments
    ---------
    encoder : WhisperEncoder
        Any.
    """

    fourier: torch.Tensor
    filters: torch.Tensor

    def __init__(self, encoder: WhisperEncoder):
        super().__init__()
        log_mel: Any = encoder.log_mel
        times = torch.arange(N_FFT, dtype=torch.float64)
        bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64)
        angles = 2 * math.pi / N_FFT * torch.outer(times, bins)
        fourier = torch.cat([angles.cos(), angles.sin()], dim=1)
        fourier = log_mel.window.double()[:, None] * fourier
        self.register_buffer("fourier", fourier.float())  # [400, 2 * 201]
        self.register_buffer("filters", log_mel.filters.T.repeat(2, 1))

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        """Samples [S] → [M, n_mels]."""
        samples, half = wav.shape[0], N_FFT // 2
        size = samples // MEL_HOP
        # The end is mirrored in a full window, and else followed by zeros.
        after = wav[samples - 2 - torch.arange(MIRRORED)]
        is_full = torch.scalar_tensor(samples) >= WINDOW_SAMPLES
        needed = (size + 5) * MEL_HOP
        zeros = wav.new_zeros(needed - samples - half - MIRRORED)
        before = wav[1 : half + 1].flip(0)
        padded = torch.cat([before, wav, after * is_full, zeros])
        hops = padded.reshape(size + 5, MEL_HOP)
        rest = N_FFT - 2 * MEL_HOP
        frames = torch.cat([hops[:-2], hops[1:-1], hops[2:, :rest]], dim=1)
        power = (frames @ self.fourier).square() @ self.filters
        mel = power.clamp(min=LOG_FLOOR).log() * (1 / math.log(10))
        # Three frames past the last one touch the speech, but not past 30 s.
        past = torch.arange(size + 3)[:, None] >= 2 * WINDOW_FRAMES
        ceiling = mel.amax(dim=1, keepdim=True).masked_fill(past, EMPTY)
        mel = torch.maximum(mel, ceiling.amax(dim=0) - DYNAMIC_RANGE)
        return ((mel + 4.0) * 0.25)[:size]

"""A model's computation on one window, as torch.onnx can export it.

    wav [1, S] ─ log-mel → convolutions → blocks ─ lobes ─ statistics
    statistics of the windows before ─────────────────────── merged ─► results

Lobes run as they are. Whisper's encoder is written anew: without a batch and
without torch.stft, and with its convolutions as products of matrices, which
onnxruntime computes faster.
"""

from __future__ import annotations

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
from qieemo_sb.serving.onnx import EMPTY

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


class Product(torch.nn.Module):
    """A linear layer as ``x @ weight + bias``, [T, K] → [T, N].

    Arguments
    ---------
    weight : torch.Tensor
        [K, N].
    bias : torch.Tensor
        [N].
    by_frame : bool
        Divide each frame by its maximum before the product, and multiply
        after it. In 8 bits all frames share one scale: behind a GELU a few of
        Whisper's are twenty times as large as the others, which would be left
        a handful of steps.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, by_frame: bool = False
    ):
        super().__init__()
        self.register_buffer("weight", weight.detach().contiguous())
        self.register_buffer("bias", bias.detach())
        self.by_frame = by_frame

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply frames [T, K]."""
        if not self.by_frame:
            return x @ self.weight + self.bias
        largest = x.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST)
        return x / largest @ self.weight * largest + self.bias


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

    positions: torch.Tensor

    def __init__(self, encoder: WhisperEncoder, last: int, int8: bool = False):
        super().__init__()
        self.log_mel = LogMelWindow(encoder)
        self.conv1 = _convolution(encoder.conv1)
        self.conv2 = _convolution(encoder.conv2, by_frame=int8)
        self.register_buffer("positions", encoder.positions.weight.detach())
        self.blocks = torch.nn.ModuleList(
            BlockWindow(block, int8) for block in encoder.blocks[:last]
        )
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
            x = hidden[k] = block(x)
        if self.norm is not None:
            hidden[len(self.blocks)] = self.norm(x)
        return hidden


def _convolution(conv, by_frame=False):
    """A convolution of three frames, put side by side, as a product."""
    weight = conv.weight.permute(2, 1, 0).flatten(0, 1)
    return Product(weight, conv.bias, by_frame)


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


class BlockWindow(torch.nn.Module):
    """One of Whisper's blocks on [T, D].

    Arguments
    ---------
    block : qieemo_sb.encoders.whisper.Block
        Any.
    int8 : bool
        As of ``ModelWindow``.
    """

    def __init__(self, block: Any, int8: bool = False):
        super().__init__()
        part = block.self_attn
        self.heads = part.num_heads
        q, k, v = part.q_proj, part.k_proj, part.v_proj
        weights = [part.scaling * q.weight, k.weight, v.weight]
        biases = [part.scaling * q.bias, torch.zeros_like(q.bias), v.bias]
        self.qkv = Product(torch.cat(weights).T, torch.cat(biases))
        self.out = Product(part.out_proj.weight.T, part.out_proj.bias)
        self.fc1 = Product(block.fc1.weight.T, block.fc1.bias)
        self.fc2 = Product(block.fc2.weight.T, block.fc2.bias, by_frame=int8)
        self.attention_norm = block.self_attn_layer_norm
        self.final_norm = block.final_layer_norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Frames [T, D] → [T, D]."""
        frames, width = x.shape
        shape = frames, self.heads, width // self.heads
        joint = self.qkv(self.attention_norm(x)).chunk(3, dim=1)
        q, k, v = (y.reshape(shape).transpose(0, 1) for y in joint)
        weights = (q @ k.transpose(1, 2)).softmax(dim=-1)  # [heads, T, T]
        attended = (weights @ v).transpose(0, 1).reshape(frames, width)
        x = x + self.out(attended)
        return x + self.fc2(F.gelu(self.fc1(self.final_norm(x))))

"""Whisper's encoder as ONNX: waveform → log-mel → convolutions → blocks."""

import math

import numpy as np
from onnx import TensorProto

from qieemo_sb.encoders.whisper import DYNAMIC_RANGE, LOG_FLOOR, WhisperEncoder
from qieemo_sb.frames import MEL_HOP, N_FFT, WINDOW_FRAMES, WINDOW_SAMPLES
from qieemo_sb.serving.onnx.graph import (
    Graph,
    array,
    attention,
    columns,
    integers,
    linear,
    neighbours,
    norm,
    product,
    real,
    rows,
)

# Samples mirrored at the end of a full window: what is left of the last
# analysis window, which is centred on the last hop of 30 s.
MIRRORED = N_FFT // 2 - MEL_HOP


def whisper(
    graph: Graph, encoder: WhisperEncoder, wav: str, last: int
) -> dict[int, str]:
    """Hidden states of a window of at most 30 s.

    Arguments
    ---------
    graph : Graph
        Gets the nodes.
    encoder : WhisperEncoder
        Any.
    wav : str
        [S] at 16 kHz.
    last : int
        The highest block that is needed; those above are left out.

    Returns
    -------
    dict of int to str
        Block → [T, D].
    """
    mel, size = log_mel(graph, encoder, wav)
    x = _embed(graph, encoder, mel, size)
    hidden = {0: x}
    for k in range(1, last + 1):
        x = hidden[k] = _block(graph, encoder.blocks[k - 1], x)
    if last == encoder.n_blocks:
        hidden[last] = norm(graph, x, encoder.norm)
    return hidden


def log_mel(graph: Graph, encoder: WhisperEncoder, wav: str) -> tuple[str, str]:
    """What ``qieemo_sb.encoders.whisper.LogMel`` computes.

    Arguments
    ---------
    graph : Graph
        Gets the nodes.
    encoder : WhisperEncoder
        Any.
    wav : str
        [S] at 16 kHz.

    Returns
    -------
    mel : str
        [M, n_mels].
    size : str
        [1] int64, M.
    """
    samples = graph("Shape", wav)
    size = graph("Div", samples, integers(MEL_HOP))
    spectrum = graph(
        "MatMul",
        _analysis_windows(graph, wav, samples, size),
        _fourier(array(encoder.log_mel.window)),
    )  # [M, 2 * 201]: real parts, then imaginary ones
    filters = array(encoder.log_mel.filters).T
    power = graph(
        "MatMul",
        graph("Mul", spectrum, spectrum),
        np.concatenate([filters, filters]),
    )
    mel = graph("Log", graph("Max", power, real(LOG_FLOOR)))
    mel = graph("Mul", mel, real(1 / math.log(10)))
    ceiling = graph("ReduceMax", mel, keepdims=1)
    mel = graph("Max", mel, graph("Sub", ceiling, real(DYNAMIC_RANGE)))
    mel = graph("Mul", graph("Add", mel, real(4.0)), real(0.25))
    return rows(graph, mel, integers(0), size), size


def _analysis_windows(graph, wav, samples, size):
    """Windows [M', 400] of every hop that touches speech; see ``LogMel``."""
    half = N_FFT // 2
    count = graph("Add", size, integers(3))
    count = graph("Min", count, integers(2 * WINDOW_FRAMES))
    before = graph("Gather", wav, np.arange(half, 0, -1), axis=0)
    mirror = graph("Sub", samples, 2 + np.arange(MIRRORED))
    after = graph("Gather", wav, mirror, axis=0)
    is_full = graph("GreaterOrEqual", samples, integers(WINDOW_SAMPLES))
    after = graph("Mul", after, graph("Cast", is_full, to=TensorProto.FLOAT))
    # Windows are cut from whole hops, so zeros fill up the last ones.
    needed = graph("Mul", graph("Add", count, integers(2)), integers(MEL_HOP))
    given = graph("Add", samples, integers(half + MIRRORED))
    lacking = graph("Max", graph("Sub", needed, given), integers(0))
    zeros = graph("ConstantOfShape", lacking)
    padded = graph("Concat", before, wav, after, zeros, axis=0)
    # The last window ends with the audio, up to 159 samples past 30 s.
    padded = rows(graph, padded, integers(0), needed)
    hops = graph("Reshape", padded, integers(-1, MEL_HOP))  # [M' + 2, 160]
    shifted = neighbours(graph, hops, count, 3)
    shifted[2] = columns(graph, shifted[2], 0, N_FFT - 2 * MEL_HOP)
    return graph("Concat", *shifted, axis=1)


def _fourier(window):
    """[400, 2 * 201]: the window and the transform of real samples."""
    bins = np.arange(N_FFT // 2 + 1)
    angles = 2 * np.pi / N_FFT * np.outer(np.arange(N_FFT), bins)
    parts = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return window[:, None] * parts


def _embed(graph, encoder, mel, size):
    """Log-mel [M, n_mels] → input of block 1 [T, D]."""
    zero = np.zeros((1, encoder.dims["n_mels"]))
    padded = graph("Concat", zero, mel, zero, axis=0)
    x = _convolve(graph, encoder.conv1, neighbours(graph, padded, size, 3))
    # The second convolution steps by two: pairs of frames become rows.
    length = graph("Div", graph("Add", size, integers(1)), integers(2))
    width = encoder.d_model
    zero = np.zeros((1, width))
    padded = graph("Concat", zero, x, zero, zero, axis=0)
    end = graph("Mul", graph("Add", length, integers(1)), integers(2))
    padded = rows(graph, padded, integers(0), end)
    pairs = graph("Reshape", padded, integers(-1, 2 * width))  # [T + 1, 2 D]
    own = rows(graph, pairs, integers(0), length)
    after = rows(graph, pairs, integers(1), graph("Add", length, integers(1)))
    triples = [own, columns(graph, after, 0, width)]
    x = _convolve(graph, encoder.conv2, triples, uneven=True)
    positions = graph.constant(array(encoder.positions.weight))
    return graph("Add", x, rows(graph, positions, integers(0), length))


def _convolve(graph, conv, pieces, uneven=False):
    """A convolution of three frames, put side by side, and a GELU."""
    width = conv.in_channels * conv.kernel_size[0]
    weight = array(conv.weight).transpose(2, 1, 0).reshape(width, -1)
    joined = graph("Concat", *pieces, axis=1)
    bias = array(conv.bias)
    return graph("Gelu", product(graph, joined, weight, bias, uneven))


def _block(graph, block, x):
    """One of Whisper's blocks on [T, D]."""
    attended = _self_attention(
        graph,
        block.self_attn,
        norm(graph, x, block.self_attn_layer_norm),
    )
    x = graph("Add", x, attended)
    h = linear(graph, norm(graph, x, block.final_layer_norm), block.fc1)
    h = linear(graph, graph("Gelu", h), block.fc2, uneven=True)
    return graph("Add", x, h)


def _self_attention(graph, part, x):
    """Queries, keys and values of [T, D] come from one product."""
    width, bias = part.q_proj.out_features, array(part.q_proj.bias)
    weights = [
        part.scaling * array(part.q_proj.weight).T,
        array(part.k_proj.weight).T,
        array(part.v_proj.weight).T,
    ]
    biases = [part.scaling * bias, np.zeros(width), array(part.v_proj.bias)]
    joint = product(
        graph, x, np.concatenate(weights, axis=1), np.concatenate(biases)
    )
    streams = graph("Split", joint, outputs=3, axis=1, num_outputs=3)
    attended = attention(graph, *streams, part.num_heads, width)
    return linear(graph, attended, part.out_proj)

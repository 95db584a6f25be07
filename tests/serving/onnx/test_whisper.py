"""Whisper's log-mel in a graph."""

import numpy as np
import pytest
import torch

from qieemo_sb.encoders.whisper import LogMel
from qieemo_sb.serving.onnx.graph import Graph
from qieemo_sb.serving.onnx.whisper import log_mel


@pytest.mark.parametrize(
    "samples",
    [400, 480, 559, 16_000, 16_160, 116_800, 479_679, 479_999, 480_000]
    + [480_001, 480_039, 480_080, 480_081, 480_159],
)
@pytest.mark.parametrize("gain", [0.0, 1e-4, 1.0])
def test_log_mel_is_that_of_torch(compute, sound, make_encoder, samples, gain):
    signal = sound(samples, gain=gain)
    graph = Graph("g")
    mel, _ = log_mel(graph, make_encoder(), "x")
    expected = LogMel()(signal[None], torch.tensor([samples]))[0].T
    found = compute(graph, mel, signal.numpy())
    assert found.shape == (samples // 160, 80)
    assert np.abs(found - expected.numpy()).max() < 1e-4


def test_log_mel_of_large_v3(compute, sound, make_encoder):
    encoder, signal = make_encoder(), sound(16_000)
    encoder.log_mel = LogMel(128)
    graph = Graph("g")
    found = compute(graph, log_mel(graph, encoder, "x")[0], signal.numpy())
    expected = encoder.log_mel(signal[None], torch.tensor([16_000]))[0].T
    assert np.abs(found - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize("samples", [16_000, 16_159])
def test_click_at_the_end_counts_for_the_ceiling(
    compute, sound, make_encoder, samples
):
    signal = sound(samples, gain=0.001)
    signal[-1] = 1.0
    graph = Graph("g")
    mel, _ = log_mel(graph, make_encoder(), "x")
    expected = LogMel()(signal[None], torch.tensor([samples]))[0].T
    found = compute(graph, mel, signal.numpy())
    assert np.abs(found - expected.numpy()).max() < 1e-4

"""A window's module computes what the model computes."""

import numpy as np
import pytest
import torch

from qieemo_sb.encoders.whisper import LogMel
from qieemo_sb.frames import sample_windows
from qieemo_sb.serving.onnx.window import (
    ByFrame,
    ExportError,
    LogMelWindow,
    ModelWindow,
)


def assert_same_mel(encoder, signal):
    found = LogMelWindow(encoder)(signal)
    samples = torch.tensor([len(signal)])
    expected = encoder.log_mel(signal[None], samples)[0].T
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    "samples",
    [400, 480, 559, 16_000, 116_800, 479_679, 479_999, 480_000, 480_001]
    + [480_039, 480_080, 480_081, 480_159],
)
@pytest.mark.parametrize("gain", [0.0, 1e-4, 1.0])
def test_log_mel_is_the_encoders(make_encoder, sound, samples, gain):
    assert_same_mel(make_encoder(), sound(samples, gain=gain))


def test_log_mel_of_large_v3(make_encoder, sound):
    encoder = make_encoder()
    encoder.log_mel = LogMel(128)
    assert_same_mel(encoder, sound(16_000))


@pytest.mark.parametrize("samples", [16_000, 16_159])
def test_click_at_the_end_counts_for_the_ceiling(make_encoder, sound, samples):
    signal = sound(samples, gain=0.001)
    signal[-1] = 1.0
    assert_same_mel(make_encoder(), signal)


@torch.no_grad()
@pytest.mark.parametrize("int8", [False, True])
def test_two_windows_are_one_utterance(model, sound, int8):
    window, signal = ModelWindow(model, int8), sound(500_000)
    statistics = window.empty_statistics().values()
    for start, end in sample_windows(len(signal)):
        wav = signal[None, start:end]
        log_probs, embedding, *statistics, _ppg = window(wav, *statistics)
    expected = model(signal[None])
    assert (log_probs - expected.log_probs).abs().max() < 1e-4
    assert (embedding - expected.embedding).abs().max() < 1e-4


def test_product_by_frame_is_the_product():
    x = torch.tensor([[1.0, 1.0], [0.0, 2000.0], [0.0, 0.0]])
    layer = torch.nn.Linear(2, 2).requires_grad_(False)
    layer.weight[:] = torch.tensor([[1.0, 3.0], [-2.0, 4.0]])
    layer.bias[:] = torch.tensor([10.0, 20.0])
    expected = [[14.0, 22.0], [6010.0, 8020.0], [10.0, 20.0]]
    for product in (layer, ByFrame(layer)):
        assert np.allclose(product(x), expected)


def test_encoder_without_a_window(make_model):
    model = make_model()
    model.encoder.__class__ = type("OtherEncoder", (type(model.encoder),), {})
    with pytest.raises(ExportError, match="OtherEncoder cannot be exported"):
        ModelWindow(model)

"""Whisper's mel filters, and the rest that transformers used to make."""

import numpy as np
import pytest
import torch
from transformers import WhisperConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import (
    WhisperEncoder as PublishedEncoder,
)

from qieemo_sb.encoders.whisper import WhisperParts, mel_filters


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_those_of_transformers(n_mels):
    expected = mel_filter_bank(
        num_frequency_bins=201,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=8_000.0,
        sampling_rate=16_000,
        norm="slaney",
        mel_scale="slaney",
    )
    assert np.abs(mel_filters(n_mels) - expected.T).max() < 1e-12


def test_filters_are_triangles_of_unit_area():
    # Bins are 40 Hz apart; narrow filters see few of them.
    areas = 40 * mel_filters(80)[60:].sum(axis=1)
    assert np.abs(areas - 1).max() < 0.05


def test_parts_are_those_of_transformers():
    dims = {"n_mels": 80, "d_model": 16, "n_blocks": 2, "n_heads": 2}
    torch.manual_seed(0)
    ours = WhisperParts(ffn_dim=32, **dims).state_dict()
    torch.manual_seed(0)
    theirs = PublishedEncoder(
        WhisperConfig(
            num_mel_bins=80,
            d_model=16,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_layers=0,
        )
    ).state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name

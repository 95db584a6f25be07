"""The checkpoint chooses the encoder."""

import checkpoints
import pytest
from transformers import BertConfig

from qieemo_sb.encoders import pretrained_encoder
from qieemo_sb.encoders.ssl import SSLEncoder
from qieemo_sb.encoders.whisper import WhisperEncoder


@pytest.mark.parametrize(
    "variant", ["wav2vec2-base", "hubert-large", "wavlm-base", "data2vec"]
)
def test_ssl(variant, tmp_path):
    model = checkpoints.make_model(variant)
    encoder = pretrained_encoder(
        checkpoints.save(model, tmp_path),
        trainable_above=1,
        gradient_checkpointing=True,
    )
    assert isinstance(encoder, SSLEncoder)
    assert encoder.dims["family"] == model.config.model_type
    assert encoder.trainable_above == 1
    assert encoder.gradient_checkpointing


def test_whisper(tmp_path):
    checkpoints.make_whisper().save_pretrained(tmp_path)
    encoder = pretrained_encoder(str(tmp_path))
    assert isinstance(encoder, WhisperEncoder)
    assert (encoder.d_model, encoder.n_blocks, encoder.frozen) == (32, 2, True)


def test_neither(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'bert'; known are whisper, wav2vec2"):
        pretrained_encoder(str(tmp_path))

"""ASR encoders under one contract, ``base.SpeechEncoder``.

A new backbone is a file with a subclass and a line of ``ENCODERS``.
"""

from typing import Any

from qieemo_sb.encoders.base import SpeechEncoder
from qieemo_sb.encoders.ssl import SSLEncoder
from qieemo_sb.encoders.whisper import WhisperEncoder
from qieemo_sb.errors import QieemoError

ENCODERS = {"WhisperEncoder": WhisperEncoder, "SSLEncoder": SSLEncoder}


def pretrained_encoder(source: str, **options: Any) -> SpeechEncoder:
    """Load the encoder of a published checkpoint.

    Arguments
    ---------
    source : str
        A Whisper, wav2vec 2.0, HuBERT, WavLM or data2vec-audio: a hub id or a
        local folder in Hugging Face format.
    **options
        ``trainable_above`` and ``gradient_checkpointing``, as of
        ``WhisperEncoder``.

    Returns
    -------
    SpeechEncoder

    Raises
    ------
    QieemoError
        The checkpoint holds none of these, or not all of it.
    """
    from transformers import AutoConfig

    family = AutoConfig.from_pretrained(source).model_type
    for encoder in ENCODERS.values():
        if family in encoder.families:
            return encoder(source=source, **options)
    known = [name for e in ENCODERS.values() for name in e.families]
    raise QieemoError(
        f"'{source}' is of the family '{family}'; known are {', '.join(known)}."
    )

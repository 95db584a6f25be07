"""Any encoder by the name of its checkpoint alone."""

from transformers import AutoConfig

from qieemo_sb.encoders.base import SpeechEncoder
from qieemo_sb.encoders.ssl import MODELS, SSLEncoder
from qieemo_sb.encoders.whisper import WhisperEncoder


def pretrained_encoder(
    source: str,
    trainable_above: int | None = None,
    gradient_checkpointing: bool = False,
) -> SpeechEncoder:
    """The encoder that a checkpoint holds.

    Arguments
    ---------
    source : str
        A Whisper, wav2vec 2.0, HuBERT, WavLM or data2vec-audio: a hub id or a
        local folder in Hugging Face format.
    trainable_above : int or None
        None: frozen. 0: all trains. k: blocks above block k.
    gradient_checkpointing : bool
        Recompute blocks in the backward pass: less memory, more time.

    Returns
    -------
    SpeechEncoder

    Raises
    ------
    ValueError
        The checkpoint holds none of these, or not all of it.

    Example
    -------
    >>> from transformers import HubertConfig, Wav2Vec2FeatureExtractor
    >>> folder = getfixture("tmp_path")
    >>> config = HubertConfig(
    ...     hidden_size=16, num_hidden_layers=2, num_attention_heads=2
    ... )
    >>> MODELS["hubert"](config).save_pretrained(folder)
    >>> _ = Wav2Vec2FeatureExtractor().save_pretrained(folder)
    >>> encoder = pretrained_encoder(str(folder))
    >>> type(encoder).__name__, encoder.d_model, encoder.n_blocks
    ('SSLEncoder', 16, 2)
    """
    family = AutoConfig.from_pretrained(source).model_type
    encoders = {"whisper": WhisperEncoder, **dict.fromkeys(MODELS, SSLEncoder)}
    if family not in encoders:
        raise ValueError(
            f"'{source}' is of the family '{family}'; known are "
            f"{', '.join(encoders)}."
        )
    return encoders[family](
        source=source,
        trainable_above=trainable_above,
        gradient_checkpointing=gradient_checkpointing,
    )

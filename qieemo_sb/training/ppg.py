"""The PPG head and the encoder that a recipe trains on: new, or of stage 1."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCTC, Wav2Vec2CTCTokenizer

from qieemo_sb.encoders import pretrained_encoder
from qieemo_sb.encoders.base import SpeechEncoder
from qieemo_sb.errors import CorpusError, ModelFolderError
from qieemo_sb.lobes.ppg import PPGHead, PretrainedPPGHead
from qieemo_sb.lobes.tokens import Characters, Tokenizer, Vocabulary
from qieemo_sb.model import Qieemo
from qieemo_sb.serving.folder import is_model_folder, load_folder

NEW_WIDTH = 256  # of a new PPG head's layers, at most


@dataclasses.dataclass
class Transcriber:
    """A PPG head and the names of its outputs.

    Arguments
    ---------
    ppg_head : PPGHead or PretrainedPPGHead
        Last block → PPG.
    tokens : Tokenizer
        Text → indices of the PPG, and back.
    trained : bool
        True if the head transcribes already.
    """

    ppg_head: PPGHead | PretrainedPPGHead
    tokens: Tokenizer
    trained: bool


def make_transcriber(
    encoder: SpeechEncoder,
    source: str | Path | None = None,
    freeze: bool = True,
    encoder_source: str | Path | None = None,
) -> Transcriber:
    """The PPG head of stage 1, the encoder's own CTC head, or a new one.

    wav2vec 2.0 and its like have a head of their own where they were tuned to
    transcribe.

    Arguments
    ---------
    encoder : SpeechEncoder
        The head is to stand on its last block.
    source : str, Path or None
        Model folder of ``train_ppg.py``; None: the encoder's own head, or a
        new one over characters.
    freeze : bool
        Keep stage 1's head as it is. The encoder's own never trains, a new one
        always does.
    encoder_source : str, Path or None
        The encoder's source; see ``make_encoder``.

    Returns
    -------
    Transcriber

    Raises
    ------
    ModelFolderError
        The model in ``source`` does not transcribe, or was trained on an
        encoder with other weights.
    """
    if source is not None:
        return _stage_one(encoder, source, freeze)
    if encoder_source is not None and not is_model_folder(encoder_source):
        if own := pretrained_transcriber(str(encoder_source)):
            return own
    tokens = Characters()
    # No wider than the encoder: beside a small one it would cost the most.
    # Without neighbours: to transcribe needs them, but emotions alone do not
    # teach that, and training would take several times as long.
    width = min(NEW_WIDTH, encoder.d_model)
    new_head = PPGHead(encoder.d_model, len(tokens), hidden=width, context=1)
    return Transcriber(new_head, tokens, trained=False)


def _stage_one(encoder, source, freeze):
    """The PPG head of a model folder, if it was trained on this encoder."""
    loaded = load_folder(source)
    if loaded.model.ppg_head is None or loaded.tokens is None:
        raise ModelFolderError(
            f"The model in {source} was not trained to transcribe. Give the "
            "model folder of train_ppg.py."
        )
    ours, theirs = encoder.state_dict(), loaded.model.encoder.state_dict()
    if ours.keys() != theirs.keys() or not all(
        torch.equal(ours[key].cpu(), theirs[key].cpu()) for key in ours
    ):
        raise ModelFolderError(
            f"The PPG head in {source} was trained on another encoder "
            f"({_describe(loaded.model.encoder)}) than yours "
            f"({_describe(encoder)}). Set the encoder's source to {source} to "
            "take both."
        )
    if freeze:
        loaded.model.ppg_head.freeze()
    return Transcriber(loaded.model.ppg_head, loaded.tokens, trained=True)


def _describe(encoder):
    first = next(iter(encoder.state_dict().values()))
    kind, size = type(encoder).__name__, encoder.n_blocks
    text = f"{kind} of {size} blocks, {encoder.d_model} wide"
    return f"{text}, checksum {first.double().sum():.6g}"


def make_encoder(source: str | Path, **options: Any) -> SpeechEncoder:
    """A pretrained encoder: a checkpoint's, or that of a model trained here.

    Arguments
    ---------
    source : str or Path
        A Whisper, wav2vec 2.0, HuBERT, WavLM or data2vec-audio, by hub id or
        local folder; or a model folder, e.g. of ``train_ppg.py``.
    **options : object
        ``trainable_above``, ``gradient_checkpointing``: see
        ``pretrained_encoder``.

    Returns
    -------
    SpeechEncoder
    """
    if not is_model_folder(source):
        return pretrained_encoder(str(source), **options)
    trained = load_folder(source).model.encoder
    encoder = type(trained)(**trained.config, **options)
    encoder.load_state_dict(trained.state_dict())
    return encoder


def check_ctc(model: Qieemo, weight: float, crop: float | None) -> None:
    """Raise CorpusError for a CTC loss that cannot teach the PPG.

    Arguments
    ---------
    model : Qieemo
        Any.
    weight : float
        Of the loss.
    crop : float or None
        Seconds of a stretch that is cut out of each utterance.
    """
    problem = None
    if crop:
        problem = "a crop loses words: set crop_seconds to null"
    if model.ppg_head is None:
        problem = "there is no PPG head: set ppg_head"
    elif model.ppg_head.frozen and model.encoder.frozen:
        problem = "neither PPG head nor encoder trains: set freeze_ppg to False"
    if weight and problem:
        raise CorpusError(
            f"ctc_weight is {weight}, but {problem}, or ctc_weight to 0."
        )


def pretrained_transcriber(source: str) -> Transcriber | None:
    """A checkpoint's CTC head, its rows in the order of its tokens.

    Begin, end and unknown are left out: no transcript has them.

    Arguments
    ---------
    source : str
        A hub id or a local folder in Hugging Face format.

    Returns
    -------
    Transcriber or None
        With ``Characters`` where the checkpoint has just these; None: it was
        not tuned to transcribe.

    Raises
    ------
    ModelFolderError
        The checkpoint has a head that cannot be used.
    """
    config = AutoConfig.from_pretrained(source)
    kinds = config.architectures or []
    if not any(kind.endswith("ForCTC") for kind in kinds):
        return None
    if getattr(config, "add_adapter", False):
        raise ModelFolderError(
            f"'{source}' transcribes from an adapter above its last block, "
            "whose frames are not 20 ms. Use PPGHead."
        )
    vocabulary = _vocabulary(source, config.vocab_size)
    options = {"weights_only": True, "output_loading_info": True}
    model, info = AutoModelForCTC.from_pretrained(
        source, dtype=torch.float32, **options
    )
    if any(name.startswith("lm_head.") for name in info["missing_keys"]):
        raise ModelFolderError(f"'{source}' lacks the weights of its CTC head.")
    rows, names = list(vocabulary), list(vocabulary.values())[1:]
    head = PretrainedPPGHead(config.hidden_size, len(rows))
    head.linear.weight.data = model.lm_head.weight.data[rows]
    head.linear.bias.data = model.lm_head.bias.data[rows]
    tokens: Tokenizer = Characters()
    if names != tokens.names[1:]:
        tokens = Vocabulary(names)
    return Transcriber(head, tokens, trained=True)


def _vocabulary(source, size):
    """Row of the head → token, sorted by token; the blank comes first."""
    try:
        tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(source)
    except (OSError, TypeError) as error:
        raise ModelFolderError(
            f"'{source}' has a CTC head and no vocab.json that says what its "
            f"outputs mean: {error}"
        ) from error
    blank = tokenizer.pad_token_id
    if blank is None or blank >= size:
        raise ModelFolderError(
            f"'{source}' has {size} outputs, none of which is the blank "
            f"'{tokenizer.pad_token}'."
        )
    special = {blank, tokenizer.bos_token_id, tokenizer.eos_token_id}
    special |= {tokenizer.unk_token_id}
    names = {
        row: " " if token == tokenizer.word_delimiter_token else token
        for token, row in tokenizer.get_vocab().items()
        if row < size and row not in special
    }
    lower = {row: name.lower() for row, name in names.items()}
    if len(set(lower.values())) == len(names):  # case tells nothing apart
        names = lower
    rows = sorted(names, key=names.__getitem__)
    return {blank: tokenizer.pad_token, **{row: names[row] for row in rows}}

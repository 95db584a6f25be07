"""What stage 1 has learned to read, handed to stage 2.

Authors
 * The Qieemo-SB authors 2026
"""

import dataclasses
from pathlib import Path

import torch

from qieemo_sb.bundle import load_bundle
from qieemo_sb.encoders.base import SpeechEncoder
from qieemo_sb.encoders.pretrained import pretrained_encoder
from qieemo_sb.folder import HYPERPARAMS, TOKENS, BundleError
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.lobes.pretrained_ppg import (
    has_ctc_head,
    pretrained_ppg_head,
    tokens_of,
)
from qieemo_sb.tokens.base import Tokenizer
from qieemo_sb.tokens.characters import Characters
from qieemo_sb.tokens.load import load_tokenizer

NEW_WIDTH = 256  # of a new PPG head's layers, at most


@dataclasses.dataclass
class Reader:
    """A PPG head and the names of its outputs.

    Arguments
    ---------
    ppg_head : PPGHead
        Last block → PPG.
    tokens : Tokenizer
        Text → indices of the PPG, and back.
    trained : bool
        Whether the head reads already.
    """

    ppg_head: PPGHead
    tokens: Tokenizer
    trained: bool


def make_reader(
    encoder: SpeechEncoder,
    source: str | Path | None = None,
    freeze: bool = True,
    encoder_source: str | Path | None = None,
) -> Reader:
    """The PPG head of stage 1, the encoder's own, or a new one.

    A new one reads nothing yet. wav2vec 2.0 and its like have a head of their
    own where they were tuned to read.

    Arguments
    ---------
    encoder : SpeechEncoder
        Whose last block the head is to read.
    source : str, Path or None
        Model folder of ``train_ppg.py``; None: the encoder's own head, or a
        new one over characters.
    freeze : bool
        Whether stage 1's head stays as it is. The encoder's own always does,
        a new one always trains.
    encoder_source : str, Path or None
        What ``make_encoder`` made the encoder of.

    Returns
    -------
    Reader

    Raises
    ------
    BundleError
        The model in ``source`` does not read, or was trained on an encoder
        with other weights.
    """
    if source is None and _reads_by_itself(encoder_source):
        head = pretrained_ppg_head(str(encoder_source))
        return Reader(head, tokens_of(str(encoder_source)), trained=True)
    if source is None:
        tokens = Characters()
        # No wider than the encoder: beside a small one it would cost the most.
        # Without neighbours: to read needs them, emotions alone teach no
        # reading, and training would take several times as long.
        width = min(NEW_WIDTH, encoder.d_model)
        head = PPGHead(encoder.d_model, len(tokens), hidden=width, context=1)
        return Reader(head, tokens, trained=False)
    hparams = load_bundle(source)
    model, tokens = hparams["model"], hparams["tokens"]
    if model.ppg_head is None or tokens is None:
        raise BundleError(
            f"The model in {source} was not trained to read. Give the model "
            "folder of train_ppg.py."
        )
    _check_encoder(encoder, model.encoder, source)
    if freeze:
        model.ppg_head.freeze()
    return Reader(model.ppg_head, tokens, trained=True)


def make_encoder(
    source: str | Path,
    trainable_above: int | None = None,
    gradient_checkpointing: bool = False,
) -> SpeechEncoder:
    """A pretrained encoder: a checkpoint's, or that of a model trained here.

    Arguments
    ---------
    source : str or Path
        A Whisper, wav2vec 2.0, HuBERT, WavLM or data2vec-audio, by hub id or
        local folder; or a model folder, e.g. of ``train_ppg.py``.
    trainable_above, gradient_checkpointing
        See ``pretrained_encoder``.

    Returns
    -------
    SpeechEncoder
    """
    options = {
        "trainable_above": trainable_above,
        "gradient_checkpointing": gradient_checkpointing,
    }
    if not (Path(source) / HYPERPARAMS).is_file():
        return pretrained_encoder(str(source), **options)
    trained = load_bundle(source)["model"].encoder
    encoder = type(trained)(**trained.rebuild_config(), **options)
    encoder.load_state_dict(trained.state_dict())
    return encoder


def check_tokens(tokens: Tokenizer, folder: str | Path) -> None:
    """Refuse checkpoints whose PPG has other tokens; the first run saves them.

    Arguments
    ---------
    tokens : Tokenizer
        Of the run.
    folder : str or Path
        Of its checkpoints.

    Raises
    ------
    BundleError
        Names both.
    """
    folder = Path(folder)
    if not (folder / TOKENS).exists():
        folder.mkdir(parents=True, exist_ok=True)
        tokens.save(folder)
        return
    before = load_tokenizer(folder)
    if before != tokens:
        raise BundleError(
            f"The checkpoints in {folder} read {before}, the PPG head reads "
            f"{tokens}, other ones. Choose another output_folder."
        )


def _reads_by_itself(encoder_source):
    """Whether an encoder's checkpoint, one of others, has a CTC head."""
    if encoder_source is None or (Path(encoder_source) / HYPERPARAMS).exists():
        return False
    return has_ctc_head(str(encoder_source))


def _check_encoder(encoder, trained_on, source):
    """Raise BundleError unless both encoders are one and the same."""
    here, there = encoder.state_dict(), trained_on.state_dict()
    same = here.keys() == there.keys() and all(
        torch.equal(here[key].cpu(), there[key].cpu()) for key in here
    )
    if not same:
        raise BundleError(
            f"The PPG head in {source} was trained on another encoder "
            f"({_shape(trained_on)}) than the one that it is to read "
            f"({_shape(encoder)}). Set the encoder's source to {source} to "
            "take both."
        )


def _shape(encoder):
    """An encoder in words."""
    weights = next(iter(encoder.state_dict().values())).double()
    return (
        f"{type(encoder).__name__} of {encoder.n_blocks} blocks, "
        f"{encoder.d_model} wide, checksum {float(weights.sum()):.6g}"
    )

"""SpeechBrain's EncoderClassifier for model folders, theirs and ours.

SpeechBrain's relative lengths become samples here, results its tuples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import urlsplit
from urllib.request import urlretrieve

import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch

from qieemo_sb.audio import read_audio
from qieemo_sb.errors import AudioError, ModelFolderError, QieemoError
from qieemo_sb.frames import SAMPLE_RATE, absolute_lengths
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.tokens import Tokenizer
from qieemo_sb.model import PPGOutput, Qieemo, QieemoOutput
from qieemo_sb.serving.classifier import (
    NO_EMOTION,
    PPG,
    EmotionClassifier,
    Numbers,
    as_tensor,
)
from qieemo_sb.serving.folder import CONFIG, load_folder, read_config
from qieemo_sb.serving.models import HUB_ID, check_device, shipped_models
from qieemo_sb.serving.onednn import accelerate
from qieemo_sb.serving.predictor import check_output

# out_prob [B, C], score [B], index [B], text_lab
Answer: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]


class PassThrough(torch.nn.Module):
    """Returns its input: Qieemo takes waveforms as they are."""

    def forward(
        self, x: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return ``x``, any shape."""
        return x


class EmbeddingModel(torch.nn.Module):
    """Qieemo up to its pooled vector, once a ``FolderLoader`` has filled it."""

    model: Qieemo

    def forward(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> torch.Tensor:
        """Waveforms [B, S] with relative lengths [B] → [B, E]."""
        lengths = absolute_lengths(wav_lens, wavs.shape[1])
        return self.model(wavs, lengths, frame_wise=False).embedding


@dataclasses.dataclass
class FolderLoader:
    """Fills the modules of ``hyperparams.yaml`` from a model folder.

    Stands where SpeechBrain's ``Pretrainer`` stands, which reads pickles and
    passes over missing keys.

    Arguments
    ---------
    embedding_model : EmbeddingModel
        Gets the model.
    classifier : torch.nn.Sequential
        Gets its classifier.
    label_encoder : CategoricalEncoder
        Gets the emotions.
    """

    embedding_model: EmbeddingModel
    classifier: torch.nn.Sequential
    label_encoder: CategoricalEncoder
    collect_in: str | Path | None = dataclasses.field(default=None, init=False)
    folder: Path = dataclasses.field(init=False)

    def set_collect_in(self, path: str | Path | None) -> None:
        """Set where files are linked or downloaded; None: used in place."""
        self.collect_in = path

    def collect_files(self, default_source: str | Path, **options) -> None:
        """Fetch the folder; ``options`` are those of SpeechBrain's fetch."""
        self.folder = fetch_folder(default_source, self.collect_in, **options)

    def load_collected(self) -> None:
        """Fill the modules.

        Raises
        ------
        ModelFolderError
            The folder is incomplete or damaged, or its model knows no emotion.
        """
        loaded = load_folder(self.folder)
        if not isinstance(loaded.model, Qieemo):
            raise ModelFolderError(NO_EMOTION)
        self.embedding_model.model = accelerate(loaded.model)
        self.classifier.append(loaded.model.classifier)
        _fill(self.label_encoder, loaded.labels)


class _TupleClassifier(EmotionClassifier):
    """An EmotionClassifier that answers in SpeechBrain's tuples."""

    def _answer(self, log_probs, source, seconds, speaker) -> Answer:
        check_output(log_probs.detach())
        score, index = log_probs.max(dim=-1)
        labels = [self.labels[i] for i in index.tolist()]
        return log_probs, score, index, labels


class EncoderClassifier(SpeechBrainEncoderClassifier):
    """SpeechBrain's EncoderClassifier for model folders, safer and richer.

    A thin adapter over ``EmotionClassifier``, with the calls and results of
    SpeechBrain's class on the same folder. This one evaluates no yaml, checks
    audio before the model sees it, gives frame-wise results, and transcribes
    where the PPG was trained for it. It also loads a model of stage 1. ::

        classifier = EncoderClassifier.from_hparams("results/demo/model")
        log_probs, score, index, emotion = classifier.classify_file("a.wav")

    Of SpeechBrain's ``run_opts``, three change the computation: "device",
    "precision" ("bf16" or "fp16": autocast, with features, pooling and
    probabilities still in float32) and "compile" (``torch.compile`` fuses what
    surrounds attention, with "compile_mode"; some seconds at the first use).
    The last two are meant for GPUs.
    """

    MODULES_NEEDED = ["qieemo"]

    def _prepare_modules(self, freeze_params):
        self.frozen = freeze_params
        super()._prepare_modules(freeze_params)
        self.qieemo = _TupleClassifier(
            self.mods["qieemo"],
            self.hparams.labels,
            self.hparams.tokens,
            self.inference_ctx,
        )

    def _compile(self):
        """Compile the encoder's blocks, not every module as SpeechBrain."""
        if self.jit:
            raise QieemoError(
                "Qieemo is not for torch.jit: use run_opts={'compile': True}."
            )
        if self.compile:
            encoder = self.mods["qieemo"].encoder
            encoder.compile_blocks(mode=self.compile_mode)

    def train(self, mode: bool = True) -> EncoderClassifier:
        """Set the mode, unless the classifier is frozen.

        A program that holds a frozen classifier may train: its results, and
        the statistics that they rest on, stay as they are.
        """
        super().train(mode)
        if self.frozen:
            self.mods.eval()
        return self

    @classmethod
    def from_hparams(
        cls,
        source: str | Path,
        *,
        savedir: str | Path | None = None,
        local_strategy: LocalStrategy = LocalStrategy.SYMLINK,
        fetch_config: FetchConfig | None = None,
        **kwargs,
    ) -> EncoderClassifier:
        """Load a model folder, from the disk or a hub.

        Arguments
        ---------
        source : str or Path
            A model folder or the name of a model that ships (the network is
            not used), or a hub id.
        savedir : str, Path or None
            Where to link or download files, a folder for each model; None:
            use them where they are.
        local_strategy, fetch_config
            As of SpeechBrain's ``from_hparams``.
        **kwargs
            For the constructor, e.g. ``run_opts={"device": "cuda"}``.

        Returns
        -------
        EncoderClassifier

        Raises
        ------
        ModelFolderError
            The folder is incomplete or damaged, or there is none.
        """
        folder = fetch_folder(
            source,
            savedir,
            local_strategy=local_strategy,
            fetch_config=fetch_config or FetchConfig(),
        )
        check_device((kwargs.get("run_opts") or {}).get("device") or "cpu")
        loaded = load_folder(folder)
        hparams = {
            "labels": loaded.labels,
            "tokens": loaded.tokens,
            "label_encoder": _fill(CategoricalEncoder(), loaded.labels or []),
            "sample_rate": SAMPLE_RATE,
            "savedir": savedir,
        }
        return cls(modules={"qieemo": loaded.model}, hparams=hparams, **kwargs)

    @property
    def labels(self) -> list[str]:
        """As of ``EmotionClassifier``."""
        return self.qieemo.labels

    @property
    def tokens(self) -> Tokenizer:
        """As of ``EmotionClassifier``."""
        return self.qieemo.tokens

    def analyse_batch(
        self, wavs: Numbers, wav_lens: Numbers | None = None
    ) -> QieemoOutput | PPGOutput:
        """Full output of the model for a batch, frame by frame too.

        Arguments
        ---------
        wavs : torch.Tensor, np.ndarray or sequence
            [B, S] or [S] at 16 kHz, floating point.
        wav_lens : torch.Tensor, np.ndarray, sequence or None
            [B] relative lengths; None: every row is full.

        Returns
        -------
        QieemoOutput or PPGOutput

        Raises
        ------
        AudioError
            See ``check_batch``; lengths that are no fractions, too.
        """
        return self.qieemo.analyse_batch(*_batch(wavs, wav_lens))

    def encode_batch(
        self,
        wavs: Numbers,
        wav_lens: Numbers | None = None,
        normalize: bool = False,
    ) -> torch.Tensor:
        """Pooled vectors [B, E]; arguments as of ``analyse_batch``.

        Raises
        ------
        QieemoError
            ``normalize`` is asked for: Qieemo has no such statistics.
        """
        if normalize:
            raise QieemoError(
                "Qieemo keeps no statistics of its embeddings: call "
                "encode_batch without normalize."
            )
        return self.qieemo.embed_batch(*_batch(wavs, wav_lens))

    def classify_batch(
        self,
        wavs: Numbers,
        wav_lens: Numbers | None = None,
        speaker: Moments | None = None,
    ) -> Answer:
        """Classify a batch; no result depends on the other utterances.

        Arguments
        ---------
        wavs, wav_lens
            As of ``analyse_batch``.
        speaker : Moments or None
            Of ``adapt``, who speaks in all of them; None: not known.

        Returns
        -------
        out_prob : torch.Tensor
            [B, C] log-probabilities.
        score : torch.Tensor
            [B] the best one.
        index : torch.Tensor
            [B] its index.
        text_lab : list of str
            Its emotion.
        """
        embedding = self.encode_batch(wavs, wav_lens)
        return self._answer(embedding, speaker)

    def classify_file(
        self, path: str | Path, speaker: Moments | None = None, **kwargs
    ) -> Answer:
        """Classify an audio file of any rate, channels and length.

        Arguments
        ---------
        path : str or Path
            A local file, or a web address.
        speaker : Moments or None
            As of ``classify_batch``.
        **kwargs
            As of ``load_audio``, e.g. ``savedir``.

        Returns
        -------
        tuple
            As of ``classify_batch``, with B = 1.

        Raises
        ------
        AudioError
            The file cannot be used or downloaded; names it.
        """
        embedding = self.qieemo.embed_file(local_file(path, **kwargs))
        return self._answer(embedding, speaker)

    def classify_files(self, *args, **kwargs) -> Iterator[Answer | AudioError]:
        """As ``EmotionClassifier.predict``, but a tuple for each file."""
        return self.qieemo.predict(*args, **kwargs)

    def classify_conversation(
        self, *args, **kwargs
    ) -> list[Answer | AudioError]:
        """As ``EmotionClassifier.predict_conversation``, but in tuples."""
        return self.qieemo.predict_conversation(*args, **kwargs)

    def adapt(self, *args, **kwargs) -> Moments:
        """As ``EmotionClassifier.adapt``."""
        return self.qieemo.adapt(*args, **kwargs)

    def ppg_batch(self, wavs: Numbers, wav_lens: Numbers | None = None) -> PPG:
        """As ``EmotionClassifier.ppg_batch``, of relative lengths."""
        return self.qieemo.ppg_batch(*_batch(wavs, wav_lens))

    def transcribe_batch(
        self, wavs: Numbers, wav_lens: Numbers | None = None
    ) -> tuple[list[str], list[list[int]]]:
        """As ``EmotionClassifier.transcribe_batch``, of relative lengths."""
        return self.qieemo.transcribe_batch(*_batch(wavs, wav_lens))

    def transcribe_file(self, path: str | Path, **kwargs) -> str:
        """The transcript of an audio file; arguments as ``classify_file``."""
        return self.qieemo.transcribe_file(local_file(path, **kwargs))

    def _answer(self, embedding, speaker):
        """The tuple for pooled vectors [B, E]."""
        log_probs = self.qieemo.log_probs(embedding, speaker)
        return self.qieemo._answer(log_probs, None, None, None)

    def load_audio(
        self, path: str | Path, savedir: str | Path | None = None
    ) -> torch.Tensor:
        """Read audio as [S] at 16 kHz, mono, on the model's device.

        Arguments
        ---------
        path : str or Path
            A local file, or a web address.
        savedir : str, Path or None
            Where a download is kept, and found again; needed for a web
            address.

        Returns
        -------
        torch.Tensor
            [S].

        Raises
        ------
        AudioError
            As of ``classify_file``.
        """
        wav = torch.from_numpy(read_audio(local_file(path, savedir)))
        return wav.to(self.qieemo.device)


def _batch(wavs, wav_lens):
    """Waveforms as a tensor; relative lengths in samples; None stays None."""
    wavs = torch.atleast_2d(as_tensor(wavs, "wavs"))
    if wav_lens is not None:
        wav_lens = as_tensor(wav_lens, "wav_lens")
        wav_lens = absolute_lengths(wav_lens, wavs.shape[-1])
    return wavs, wav_lens


def _fill(label_encoder, labels):
    """Give SpeechBrain's encoder of labels its labels."""
    label_encoder.update_from_iterable(labels, sequence_input=False)
    label_encoder.expect_len(len(labels))
    return label_encoder


def fetch_folder(
    source: str | Path, savedir: str | Path | None = None, **options
) -> Path:
    """Find a model folder on the disk, or fetch it from a hub.

    Arguments
    ---------
    source : str or Path
        A folder, the name of a model that ships, or a hub id.
    savedir : str, Path or None
        Where to link or download files.
    **options
        Of ``speechbrain.utils.fetching.fetch``.

    Returns
    -------
    Path

    Raises
    ------
    ModelFolderError
        There is no such folder, and the hub has no such model.
    """
    if not Path(source).exists():
        source = shipped_models().get(str(source), source)
    hub_id = HUB_ID.fullmatch(str(source))
    here = isinstance(source, Path) or not hub_id or Path(source).exists()
    if here:
        read_config(Path(source))  # raises, before anything is linked
        if savedir is None:
            return Path(source)
    try:
        config = fetch(CONFIG, str(source), savedir, **options)
    except OSError as error:
        if here:  # then it is savedir that cannot be used
            raise
        raise ModelFolderError(
            f"There is no folder {source} here, and the hub does not give "
            f"{CONFIG} of a model of that name: {error}"
        ) from error
    folder = Path(config).parent
    for name in read_config(folder)["sha256"]:
        fetch(name, str(source), savedir, **options)
    return folder


def local_file(path: str | Path, savedir: str | Path | None = None) -> Path:
    """Path of an audio file on the disk; a web address is downloaded once.

    Raises
    ------
    AudioError
        A web address without ``savedir``, or one that cannot be downloaded.
    """
    url = str(path)
    if not url.startswith(("http://", "https://")):
        return Path(path)
    if savedir is None:
        raise AudioError(f"{url}: give savedir, where the download is kept.")
    # Two addresses may end in the same name, and a name may end in a query.
    folder = Path(savedir) / hashlib.sha256(url.encode()).hexdigest()[:16]
    kept = folder / (PurePosixPath(urlsplit(url).path).name or "audio")
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                partial = Path(unfinished) / kept.name
                urlretrieve(url, partial)
                os.replace(partial, kept)
        except (OSError, ValueError) as error:
            message = f"{url} cannot be downloaded: {error}."
            raise AudioError(message, url) from error
    return kept

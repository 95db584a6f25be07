"""A trained Qieemo in a script: wav in, emotion out.

Authors
 * The Qieemo-SB authors 2026
"""

import re
from pathlib import Path
from typing import Any

import torch
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.run_opts import RunOptions

from qieemo_sb.audio import read_audio
from qieemo_sb.bundle import HYPERPARAMS, BundleError, BundleLoader
from qieemo_sb.linear import speed_up
from qieemo_sb.model import Qieemo, QieemoOutput
from qieemo_sb.trust import load_trusted_yaml


class PassThrough(torch.nn.Module):
    """Gives back what it gets: Qieemo takes waveforms as they are."""

    def forward(
        self, x: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return ``x``, any shape."""
        return x


class Embedding(torch.nn.Module):
    """Qieemo up to its pooled vector, as EncoderClassifier calls it.

    Arguments
    ---------
    model : Qieemo
        The whole model. It is being served from now on: its linear layers are
        exchanged for faster ones with the same parameters.
    """

    def __init__(self, model: Qieemo):
        super().__init__()
        speed_up(model)
        self.model = model

    def forward(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> torch.Tensor:
        """Waveforms [B, S] with relative lengths [B] → [B, E]."""
        return self.model(wavs, wav_lens).embedding


class EncoderClassifier(SpeechBrainEncoderClassifier):
    """SpeechBrain's EncoderClassifier for Qieemo bundles, safer and richer.

    Same calls and same answers as SpeechBrain's class on the same folder.
    This one executes nothing that a bundle brings and reads no pickle, checks
    audio before the model sees it, and can give frame-wise results.

    To classify a file with the model that a run left::

        classifier = EncoderClassifier.from_hparams("results/demo/model")
        log_probs, score, index, emotion = classifier.classify_file("a.wav")
    """

    MODULES_NEEDED = ["embedding_model", "classifier", "qieemo"]

    @classmethod
    def from_hparams(
        cls,
        source: str | Path,
        hparams_file: str = HYPERPARAMS,
        overrides: dict[str, Any] | None = None,
        savedir: str | Path | None = None,
        local_strategy: LocalStrategy = LocalStrategy.SYMLINK,
        fetch_config: FetchConfig | None = None,
        **kwargs,
    ) -> "EncoderClassifier":
        """Load a bundle from a folder or a hub.

        Arguments
        ---------
        source : str or Path
            A bundle's folder (the network is not used) or a hub id.
        hparams_file : str
            Name of its yaml.
        overrides : dict or None
            Changes to the yaml.
        savedir : str, Path or None
            Where to link or download files; None: use them where they are.
        local_strategy, fetch_config
            As in SpeechBrain's ``from_hparams``.
        **kwargs
            For the constructor, e.g. ``run_opts={"device": "cuda"}``.

        Returns
        -------
        EncoderClassifier

        Raises
        ------
        UntrustedYaml
            The yaml names something that a bundle may not build.
        BundleError
            The bundle is not whole.
        """
        where = {
            "local_strategy": local_strategy,
            "fetch_config": fetch_config or FetchConfig(),
        }
        _check_source(source)
        source = str(source)
        path = Path(fetch(hparams_file, source, savedir, **where))
        hparams = load_trusted_yaml(_read(path), str(path), overrides)
        loader = hparams.get("pretrainer")
        if not isinstance(loader, BundleLoader):
            raise BundleError(f"{path} has no BundleLoader as pretrainer.")
        loader.set_collect_in(savedir)
        loader.collect_files(default_source=source, **where)
        loader.load_collected()
        hparams["savedir"] = savedir
        # How a model is run is for its user to say, not for its maker.
        for option in RunOptions().as_dict():
            hparams.pop(option, None)
        return cls(modules=hparams["modules"], hparams=hparams, **kwargs)

    @property
    def labels(self) -> list[str]:
        """Emotions in the order of the log-probabilities."""
        names = self.hparams.label_encoder.ind2lab
        return [names[index] for index in range(len(names))]

    @torch.no_grad()
    def analyse_batch(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor | None = None
    ) -> QieemoOutput:
        """Everything that the model says of a batch, frame by frame too.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S] or [S] at 16 kHz.
        wav_lens : torch.Tensor or None
            [B] relative lengths; None: every row is full.

        Returns
        -------
        QieemoOutput
        """
        if wavs.dim() == 1:
            wavs = wavs.unsqueeze(0)
        if wav_lens is None:
            wav_lens = torch.ones(len(wavs))
        wavs = wavs.to(self.device).float()
        return self.mods.qieemo(wavs, wav_lens.to(self.device))

    def encode_batch(
        self,
        wavs: torch.Tensor,
        wav_lens: torch.Tensor | None = None,
        normalize: bool = False,
    ) -> torch.Tensor:
        """Pooled vectors [B, E]; arguments as in ``analyse_batch``.

        Raises
        ------
        ValueError
            ``normalize`` is asked for: Qieemo has no such statistics.
        """
        if normalize:
            raise ValueError(
                "Qieemo keeps no statistics of its embeddings: call "
                "encode_batch without normalize."
            )
        return self.analyse_batch(wavs, wav_lens).embedding

    def classify_batch(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
        """Emotions of a batch; no answer depends on the other utterances.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S] or [S] at 16 kHz.
        wav_lens : torch.Tensor or None
            [B] relative lengths; None: every row is full.

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

        Raises
        ------
        ValueError
            Too short, or NaN or infinite samples; names the utterance.
        """
        log_probs = self.analyse_batch(wavs, wav_lens).log_probs
        score, index = log_probs.max(dim=-1)
        text_lab = self.hparams.label_encoder.decode_torch(index)
        return log_probs, score, index, text_lab

    def classify_file(
        self, path: str | Path, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
        """Emotion of an audio file of any rate, channels and length.

        Arguments
        ---------
        path : str or Path
            A local file, or a web address.
        **kwargs
            Passed to ``load_audio``, e.g. ``savedir``.

        Returns
        -------
        tuple
            As ``classify_batch``, with B = 1.

        Raises
        ------
        AudioError
            Missing, empty, corrupt, too short, or NaN or infinite samples;
            names the file.
        """
        return self.classify_batch(self.load_audio(str(path), **kwargs))

    def load_audio(
        self, path: str | Path, savedir: str | Path | None = None
    ) -> torch.Tensor:
        """Read audio as [S] at 16 kHz, mono, on the model's device.

        Arguments
        ---------
        path : str or Path
            A local file, or a web address.
        savedir : str, Path or None
            Where a download is kept; needed for a web address.

        Returns
        -------
        torch.Tensor
            [S].
        """
        # A local path is never taken for a hub id, as fetch would take one
        # whose folder is missing.
        if "://" in str(path):
            source, name = str(path).rsplit("/", 1)
            path = fetch(name, source, savedir)
        return read_audio(path).to(self.device)


def _check_source(source):
    """Raise BundleError for what is neither a folder nor a hub id."""
    text = str(source)
    hub_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text)
    if Path(text).is_file():
        raise BundleError(f"{text} is a file; a bundle is a folder.")
    if not Path(text).is_dir() and (isinstance(source, Path) or not hub_id):
        raise BundleError(f"{text} is neither a folder nor a hub id.")


def _read(path):
    """A bundle's yaml as text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BundleError(
            f"{path.parent} is no bundle: no {path.name}."
        ) from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is no text: {error}") from error

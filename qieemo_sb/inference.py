"""A trained Qieemo in a script: wav in, emotion out.

Authors
 * The Qieemo-SB authors 2026
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.run_opts import RunOptions

from qieemo_sb.audio import read_audio
from qieemo_sb.bundle import HYPERPARAMS, BundleError, load_bundle
from qieemo_sb.frames import FRAME_HOP, SAMPLE_RATE, frame_mask
from qieemo_sb.lobes.ppg import greedy
from qieemo_sb.model import Qieemo, QieemoOutput
from qieemo_sb.tokens.base import Tokenizer


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
        The whole model.
    """

    def __init__(self, model: Qieemo):
        super().__init__()
        self.model = model

    def forward(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> torch.Tensor:
        """Waveforms [B, S] with relative lengths [B] → [B, E]."""
        return self.model(wavs, wav_lens).embedding


@dataclasses.dataclass
class PPG:
    """A phonetic posteriorgram with its axes.

    Arguments
    ---------
    posteriors : torch.Tensor
        [B, T, V] probabilities; each row adds up to one. Zero past the
        lengths.
    tokens : list of str
        V names; the first is the CTC blank's.
    times : torch.Tensor
        [T] seconds at which frames begin, 20 ms apart.
    lengths : torch.Tensor
        [B] frames of each utterance.
    """

    posteriors: torch.Tensor
    tokens: list[str]
    times: torch.Tensor
    lengths: torch.Tensor


class EncoderClassifier(SpeechBrainEncoderClassifier):
    """SpeechBrain's EncoderClassifier for Qieemo bundles, safer and richer.

    Same calls and same answers as SpeechBrain's class on the same folder.
    This one executes nothing that a bundle brings and reads no pickle, checks
    audio before the model sees it, can give frame-wise results, and
    transcribes where the PPG was trained to read. It also loads a model of
    stage 1, which transcribes and knows no emotion.

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
        hparams = load_bundle(
            source,
            hparams_file,
            overrides,
            savedir,
            local_strategy=local_strategy,
            fetch_config=fetch_config or FetchConfig(),
        )
        hparams["savedir"] = savedir
        # How a model is run is for its user to say, not for its maker.
        for option in RunOptions().as_dict():
            hparams.pop(option, None)
        return cls(modules=hparams["modules"], hparams=hparams, **kwargs)

    @property
    def labels(self) -> list[str]:
        """Emotions in the order of the log-probabilities.

        Raises
        ------
        BundleError
            The model only reads.
        """
        if self.hparams.label_encoder is None:
            raise BundleError(
                "This model reads and knows no emotion: it is of train_ppg.py. "
                "Give it to train.py as ppg_source."
            )
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
        self.labels  # noqa: B018, raises where there is nothing to pool
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
        BundleError
            The model only reads.
        """
        labels = self.labels
        log_probs = self.analyse_batch(wavs, wav_lens).log_probs
        score, index = log_probs.max(dim=-1)
        text_lab = [labels[i] for i in index.tolist()]
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

    @property
    def tokens(self) -> Tokenizer:
        """The PPG's tokens.

        Raises
        ------
        BundleError
            The PPG was not trained to read.
        """
        if self.hparams.tokens is None:
            raise BundleError(
                "The PPG of this model was not trained to read: train it with "
                "train_ppg.py, or train.py with a ctc_weight above 0."
            )
        return self.hparams.tokens

    def ppg_batch(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor | None = None
    ) -> PPG:
        """What is said, frame by frame.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S] or [S] at 16 kHz.
        wav_lens : torch.Tensor or None
            [B] relative lengths; None: every row is full.

        Returns
        -------
        PPG

        Raises
        ------
        BundleError
            The PPG was not trained to read.
        ValueError
            As ``classify_batch``.
        """
        names = self.tokens.names
        result = self.analyse_batch(wavs, wav_lens)
        size = result.ppg.shape[1]
        mask = frame_mask(result.lengths, size).unsqueeze(2)
        return PPG(
            posteriors=result.ppg.exp().masked_fill(~mask, 0.0),
            tokens=list(names),
            times=torch.arange(size) * FRAME_HOP / SAMPLE_RATE,
            lengths=result.lengths,
        )

    def transcribe_batch(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor | None = None
    ) -> tuple[list[str], list[list[int]]]:
        """Greedy CTC: the best token of each frame, repeats and blanks off.

        Arguments
        ---------
        wavs, wav_lens
            As in ``ppg_batch``.

        Returns
        -------
        texts : list of str
            What is said in each utterance.
        tokens : list of list of int
            The indices that it is made of.

        Raises
        ------
        BundleError, ValueError
            As ``ppg_batch``.
        """
        ppg = self.ppg_batch(wavs, wav_lens)
        indices = greedy(ppg.posteriors, ppg.lengths)
        return [self.tokens.decode_ids(row) for row in indices], indices

    def transcribe_file(self, path: str | Path, **kwargs) -> str:
        """What is said in an audio file.

        Arguments
        ---------
        path, **kwargs
            As in ``classify_file``.

        Returns
        -------
        str

        Raises
        ------
        BundleError
            The PPG was not trained to read.
        AudioError
            As ``classify_file``.
        """
        texts, _ = self.transcribe_batch(self.load_audio(path, **kwargs))
        return texts[0]

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

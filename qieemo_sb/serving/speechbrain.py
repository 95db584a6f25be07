"""A trained Qieemo in a script: wav in, emotion out."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from urllib.request import urlretrieve

import torch
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)
from speechbrain.utils.fetching import FetchConfig, LocalStrategy
from speechbrain.utils.run_opts import RunOptions
from torch.nn.utils.rnn import pad_sequence

from qieemo_sb.audio import (
    audio_seconds,
    check_floating,
    file_batches,
    read_audio,
    read_windows,
)
from qieemo_sb.corpora.files import replacing
from qieemo_sb.errors import AudioError, ModelFolderError
from qieemo_sb.frames import FRAME_HOP, SAMPLE_RATE, WINDOW_SAMPLES, frame_mask
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.ppg import greedy
from qieemo_sb.lobes.speaker import speaker_moments
from qieemo_sb.lobes.tokens import Tokenizer
from qieemo_sb.model import Qieemo, QieemoOutput
from qieemo_sb.serving.bundle import NO_EMOTION, load_bundle
from qieemo_sb.serving.folder import HYPERPARAMS
from qieemo_sb.serving.onednn import speed_up

FILES_AT_ONCE = 500  # that are sorted by length; the first answers follow them

# out_prob [B, C], score [B], index [B], text_lab
Answer: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]


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
        The whole model. From the first call on it is being served, and has
        faster linear layers with the same parameters.
    """

    def __init__(self, model: Qieemo):
        super().__init__()
        self.model = model
        self.served = False

    def forward(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> torch.Tensor:
        """Waveforms [B, S] with relative lengths [B] → [B, E]."""
        # Not before: a bundle is also loaded to train on with its parts.
        if not self.served:
            speed_up(self.model)
            self.served = True
        return self.model(wavs, wav_lens, frame_wise=False).embedding


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

    Of SpeechBrain's ``run_opts``, three change how it is computed: "device",
    "precision" ("bf16" or "fp16": autocast, with features, pooling and
    probabilities still in float32) and "compile" (``torch.compile`` fuses what
    surrounds attention, with "compile_mode"; some seconds at the first use).
    The last two are meant for GPUs::

        run_opts = {"device": "cuda", "precision": "bf16", "compile": True}
        classifier = EncoderClassifier.from_hparams(folder, run_opts=run_opts)
    """

    MODULES_NEEDED = ["embedding_model", "classifier", "qieemo"]

    def _prepare_modules(self, freeze_params):
        self.frozen = freeze_params
        speed_up(self.mods["qieemo"])
        super()._prepare_modules(freeze_params)

    def _compile(self):
        """Compile what gains by it, not every module as SpeechBrain does."""
        if self.jit:
            raise ValueError(
                "Qieemo is not for torch.jit: use run_opts={'compile': True}."
            )
        if self.compile:
            encoder = self.mods["qieemo"].encoder
            encoder.compile_blocks(mode=self.compile_mode)

    def train(self, mode: bool = True) -> "EncoderClassifier":
        """Set the mode of what is not frozen.

        A program that holds a frozen classifier may train: the answers, and
        the statistics that they rest on, stay as they are.

        Arguments
        ---------
        mode : bool
            Whether to train.

        Returns
        -------
        EncoderClassifier
            This one.
        """
        super().train(mode)
        if self.frozen:
            self.mods.eval()
        return self

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
            Where to link or download files, a folder for each model: what is
            there already is used. None: use them where they are.
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
        ModelFolderError
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
        lacking = set(cls.MODULES_NEEDED) - set(hparams.get("modules") or ())
        if lacking:
            raise ModelFolderError(
                f"{source}: modules of {hparams_file} lacks {sorted(lacking)}."
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
        ModelFolderError
            The model only reads.
        """
        if self.hparams.label_encoder is None:
            raise ModelFolderError(NO_EMOTION)
        names = self.hparams.label_encoder.ind2lab
        return [names[index] for index in range(len(names))]

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
        return self._run(wavs, wav_lens, frame_wise=True)

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
        return self._run(wavs, wav_lens, frame_wise=False).embedding

    def classify_batch(
        self,
        wavs: torch.Tensor,
        wav_lens: torch.Tensor | None = None,
        speaker: Moments | None = None,
    ) -> Answer:
        """Emotions of a batch; no answer depends on the other utterances.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S] or [S] at 16 kHz.
        wav_lens : torch.Tensor or None
            [B] relative lengths; None: every row is full.
        speaker : Moments or None
            Who says all of them, as ``adapt`` gives; None: not known.

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
            Too short, or samples that are no sound; names the utterance.
        ModelFolderError
            The model only reads.
        """
        return self._classify(self.encode_batch(wavs, wav_lens), speaker)

    def classify_file(
        self, path: str | Path, speaker: Moments | None = None, **kwargs
    ) -> Answer:
        """Emotion of an audio file of any rate, channels and length.

        Arguments
        ---------
        path : str or Path
            A local file, or a web address.
        speaker : Moments or None
            As in ``classify_batch``.
        **kwargs
            As of ``load_audio``, e.g. ``savedir``.

        Returns
        -------
        tuple
            As ``classify_batch``, with B = 1.

        Raises
        ------
        AudioError
            Missing, empty, corrupt, too short, no sound, or not to be
            downloaded; names the file.
        """
        return self._classify(self._embed_file(path, **kwargs), speaker)

    def classify_files(
        self,
        paths: Iterable[str | Path],
        max_batch_seconds: float = 60.0,
        speaker: Moments | None = None,
    ) -> Iterator[Answer | AudioError]:
        """Emotions of many audio files, in batches of like length.

        A file that cannot be used does not stop the others: its place is
        taken by the error that ``classify_file`` would raise. ::

            for path, answer in zip(paths, classifier.classify_files(paths)):
                if isinstance(answer, AudioError):
                    print(answer)
                else:
                    print(path, answer[3][0])

        Arguments
        ---------
        paths : iterable of (str or Path)
            Local files.
        max_batch_seconds : float
            Most audio in a batch. On a processor 60 is near the best, on a
            GPU as much as its memory takes.
        speaker : Moments or None
            As in ``classify_batch``.

        Yields
        ------
        tuple or AudioError
            What ``classify_file`` returns or raises for each file, in order.
        """
        for heard in self._embed_files(_listed(paths), max_batch_seconds):
            broken = isinstance(heard, AudioError)
            yield heard if broken else self._classify(heard, speaker)

    def adapt(
        self, paths: Iterable[str | Path], max_batch_seconds: float = 60.0
    ) -> Moments:
        """Learn what is usual for a speaker, from clips without labels.

        A voice that is always loud is not always angry. ::

            ann = classifier.adapt(["ann/1.wav", "ann/2.wav", "ann/3.wav"])
            classifier.classify_file("ann/4.wav", speaker=ann)

        Which emotions the clips hold need not be known: see ``SpeakerModel``.
        A model without one, of a corpus with fewer than three speakers,
        takes all that they have in common for the voice. Any model gains,
        one that was trained with ``adapt_speakers`` a little more.

        Arguments
        ---------
        paths : iterable of (str or Path)
            The speaker's audio files, one or more; ten do most of it.
        max_batch_seconds : float
            As in ``classify_files``.

        Returns
        -------
        Moments
            For ``classify_file``, ``_files`` and ``_batch``; ``torch.save``
            and ``torch.load`` keep them.

        Raises
        ------
        AudioError
            A file cannot be used; names it.
        ValueError
            There is no file.
        TypeError
            One file in the place of a list.
        """
        heard = list(self._embed_files(_listed(paths), max_batch_seconds))
        for vector in heard:
            if isinstance(vector, AudioError):
                raise vector
        if not heard:
            raise ValueError("adapt needs at least one audio file.")
        return self._adapted(heard)

    def classify_conversation(
        self,
        paths: Iterable[str | Path],
        speakers: Sequence[str],
        max_batch_seconds: float = 60.0,
    ) -> list[Answer | AudioError]:
        """Emotions of all turns of a conversation, or of a whole corpus.

        Each speaker is adapted to by all of their turns, and no answer
        depends on what the others say.

        Arguments
        ---------
        paths : iterable of (str or Path)
            N audio files, a turn each.
        speakers : sequence of str
            N names: who says each turn.
        max_batch_seconds : float
            As in ``classify_files``.

        Returns
        -------
        list of (tuple or AudioError)
            What ``classify_file`` returns or raises for each turn, in order.

        Raises
        ------
        ValueError
            There are more or fewer names than files.
        TypeError
            One file or one name in the place of a list.
        """
        paths, speakers = list(_listed(paths)), _listed(speakers)
        if len(paths) != len(speakers):
            raise ValueError(
                f"{len(paths)} files, but {len(speakers)} speakers: "
                "classify_conversation needs a name for each."
            )
        answers = list(self._embed_files(paths, max_batch_seconds))
        turns = {}
        for i, heard in enumerate(answers):
            if not isinstance(heard, AudioError):
                turns.setdefault(speakers[i], []).append(i)
        for own in turns.values():
            speaker = self._adapted([answers[i] for i in own])
            for i in own:
                answers[i] = self._classify(answers[i], speaker)
        return answers

    @property
    def tokens(self) -> Tokenizer:
        """The PPG's tokens.

        Raises
        ------
        ModelFolderError
            The PPG was not trained to read.
        """
        if self.hparams.tokens is None:
            raise ModelFolderError(
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
        ModelFolderError
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
        ModelFolderError, ValueError
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
        ModelFolderError
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
            Where a download is kept, and found again, in a folder for each
            address; needed for a web address.

        Returns
        -------
        torch.Tensor
            [S].

        Raises
        ------
        AudioError
            As ``classify_file``.
        """
        return read_audio(_local(path, savedir)).to(self.device)

    def _run(self, wavs, wav_lens, frame_wise):
        """The model's output of a batch [B, S] or [S]."""
        check_floating(wavs.is_floating_point(), wavs.dtype)
        if wavs.dim() == 1:
            wavs = wavs.unsqueeze(0)
        if wav_lens is None:
            wav_lens = torch.ones(len(wavs))
        wavs, wav_lens = wavs.to(self.device).float(), wav_lens.to(self.device)
        learns = torch.is_grad_enabled() and not self.frozen
        with torch.set_grad_enabled(learns), self.inference_ctx:
            return self.mods.qieemo(wavs, wav_lens, frame_wise=frame_wise)

    def _classify(self, embedding, speaker=None):
        """Answer for vectors [B, E]."""
        labels, width = self.labels, embedding.shape[-1]
        if speaker is not None and speaker.mean.shape[-1:] != (width,):
            raise ValueError(
                f"The speaker's moments are {list(speaker.mean.shape)}, this "
                f"model's vectors [{width}]: adapt with this model."
            )
        learns = torch.is_grad_enabled() and not self.frozen
        with torch.set_grad_enabled(learns), self.inference_ctx:
            log_probs = self.mods.classifier(embedding, speaker)
        score, index = log_probs.max(dim=-1)
        return log_probs, score, index, [labels[i] for i in index.tolist()]

    def _adapted(self, vectors):
        """Moments of a speaker who was heard in vectors [1, E]."""
        return speaker_moments(
            torch.cat(vectors),
            self.mods.classifier,
            self.mods.qieemo.speaker_model,
        )

    def _embed_file(self, path, **kwargs):
        """Vector [1, E] of a file of any length."""
        self.labels  # noqa: B018, raises where there is nothing to pool
        windows = read_windows(_local(path, **kwargs))
        with torch.no_grad(), self.inference_ctx:
            return self.mods.qieemo.embed_windows(
                window.to(self.device) for window in windows
            )

    def _embed_files(self, paths, max_batch_seconds):
        """Yield a vector [1, E] or an AudioError for each file, in order."""
        paths = iter(paths)
        while some := list(itertools.islice(paths, FILES_AT_ONCE)):
            yield from self._embed_some(some, max_batch_seconds)

    def _embed_some(self, paths, max_batch_seconds):
        """Vectors or errors for some files, in order."""
        vectors, short = {}, []
        for i, path in enumerate(paths):
            if (audio_seconds(path) or 0) > WINDOW_SAMPLES / SAMPLE_RATE:
                vectors[i] = self._vector_or_error(path)
            else:
                short.append(i)
        names = [paths[i] for i in short]
        for batch in file_batches(names, max_batch_seconds):
            batch = [(short[i], signal) for i, signal in batch]
            good = {i: x for i, x in batch if not isinstance(x, AudioError)}
            vectors.update(batch)
            vectors.update(self._embed_signals(good))
        return [vectors[i] for i in range(len(paths))]

    def _vector_or_error(self, path):
        try:
            return self._embed_file(path)
        except AudioError as error:
            return error

    def _embed_signals(self, signals):
        """{i: [S]} → {i: [1, E]}."""
        if not signals:
            return {}
        lengths = torch.tensor([len(signal) for signal in signals.values()])
        wavs = pad_sequence(list(signals.values()), batch_first=True)
        rows = self.encode_batch(wavs, lengths / wavs.shape[1]).split(1)
        return dict(zip(signals, rows, strict=True))


def _listed(values):
    """Files or names, which a single text would be taken apart into."""
    if isinstance(values, str | bytes | Path):
        raise TypeError(f"A list is needed: [{values!r}] for {values!r} alone.")
    return values


def _local(path, savedir=None):
    """Where a file is on the disk; a web address is downloaded."""
    url = str(path)
    if not url.startswith(("http://", "https://")):
        return path
    if savedir is None:
        raise ValueError(f"{url}: give savedir, where the download is kept.")
    # Two addresses may end in the same name, and a name may end in a query.
    folder = hashlib.sha256(url.encode()).hexdigest()[:16]
    name = PurePosixPath(urlsplit(url).path).name or "audio"
    kept = Path(savedir) / folder / name
    if not kept.exists():
        try:
            with replacing(kept) as partial:
                urlretrieve(url, partial)
        except (OSError, ValueError) as error:
            message = f"{url} cannot be downloaded: {error}."
            raise AudioError(message, url) from error
    return kept

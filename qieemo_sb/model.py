"""Qieemo: encoder → PPG and emotional features → fusion → pooling → emotion.

``PPGModel`` is its first half, which stage 1 trains. ``build_model`` builds
either of them from its ``config``, a dict of plain values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from qieemo_sb.encoders import ENCODERS
from qieemo_sb.encoders.base import (
    EncoderOutput,
    SpeechEncoder,
    Stitcher,
    Window,
)
from qieemo_sb.errors import ModelFolderError, QieemoError
from qieemo_sb.lobes.blocks import BLOCKS, BlockMixer
from qieemo_sb.lobes.classifier import CLASSIFIERS, Classifier
from qieemo_sb.lobes.fusion import CMA, FUSIONS, Concatenation, Fusion
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.pooling import (
    POOLINGS,
    BlockStatistics,
    Statistics,
    StatisticsPooling,
)
from qieemo_sb.lobes.ppg import PPG_HEADS, PPGHead
from qieemo_sb.lobes.speaker import SPEAKER_MODELS, SpeakerModel

MOMENT = 51  # frames of a frame-wise emotion, about 1 s around the frame

# The parts of a model, and the classes that each can be.
PARTS = {
    "encoder": ENCODERS,
    "mixer": BLOCKS,
    "ppg_head": PPG_HEADS,
    "mmf": FUSIONS,
    "cma": FUSIONS,
    "pooling": POOLINGS,
    "block_statistics": POOLINGS,
    "classifier": CLASSIFIERS,
    "speaker_model": SPEAKER_MODELS,
}


@dataclasses.dataclass
class QieemoOutput:
    """Model output for a batch.

    Arguments
    ---------
    log_probs : torch.Tensor
        [B, C] emotion log-probabilities of each utterance.
    embedding : torch.Tensor
        [B, E] pooled vector.
    ppg : torch.Tensor or None
        [B, T, V] token log-probabilities of each frame; None without a PPG
        head and without ``frame_wise``.
    frame_log_probs : torch.Tensor or None
        [B, T, C] emotion log-probabilities of the second of speech around
        each frame; None in training and without ``frame_wise``.
    lengths : torch.Tensor
        [B] frames. Results past them mean nothing.
    """

    log_probs: Tensor
    embedding: Tensor
    ppg: Tensor | None
    frame_log_probs: Tensor | None
    lengths: Tensor


@dataclasses.dataclass
class PPGOutput:
    """Model output of stage 1 for a batch.

    Arguments
    ---------
    ppg : torch.Tensor
        [B, T, V] token log-probabilities of each frame.
    lengths : torch.Tensor
        [B] frames. Results past them mean nothing.
    """

    ppg: Tensor
    lengths: Tensor


class _Model(nn.Module):
    """Base of the models: an encoder, and lobes on its windows."""

    encoder: SpeechEncoder
    blocks: list[int]

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which ``build_model`` builds this shape."""
        parts: dict[str, Any] = {"model": type(self).__name__}
        for name in PARTS:  # in this order, as random weights are drawn
            part = getattr(self, name, None)
            if part is not None:
                parts[name] = {"class": type(part).__name__, **part.config}
        return parts

    @property
    def n_tokens(self) -> int:
        """V of the PPG; 0 without one."""
        return getattr(self.ppg_head, "n_tokens", 0)

    @property
    def lobes(self) -> nn.ModuleDict:
        """The parts that are trained beside the encoder, by name."""
        others = ("encoder", "speaker_model")
        return nn.ModuleDict(
            {k: v for k, v in self.named_children() if k not in others}
        )

    def _windows(
        self,
        wavs: Tensor | None,
        lengths: Tensor | None,
        encoded: EncoderOutput | None,
    ) -> tuple[Iterator[Window], Tensor]:
        """Windows of waveforms or of encoder outputs, and frames [B]."""
        if encoded is not None:
            return encoded.windows(), encoded.lengths
        if wavs is None:
            raise QieemoError("Give waveforms, or encoder outputs.")
        return self.encoder.windows(wavs, lengths, self.blocks)


class PPGModel(_Model):
    """Encoder → PPG: the model of stage 1, which transcribes.

    Arguments
    ---------
    encoder : SpeechEncoder
        The ASR backbone.
    ppg_head : PPGHead
        Last block → PPG [B, T, V].
    """

    def __init__(self, encoder: SpeechEncoder, ppg_head: PPGHead):
        super().__init__()
        self.encoder = encoder
        self.ppg_head = ppg_head
        self.blocks = [encoder.n_blocks]
        _check_size("ppg_head", ppg_head, d_model=encoder.d_model)

    def forward(
        self,
        wavs: Tensor | None = None,
        lengths: Tensor | None = None,
        encoded: EncoderOutput | None = None,
    ) -> PPGOutput:
        """Token log-probabilities; arguments as of ``Qieemo.forward``."""
        windows, frames = self._windows(wavs, lengths, encoded)
        stitcher = Stitcher(frames)
        for window in windows:
            last_block = window.hidden_states[self.encoder.n_blocks]
            ppg = self.ppg_head(last_block, window.lengths)
            stitcher.update(window, {"ppg": ppg})
        return PPGOutput(stitcher.result()["ppg"], frames)


class Qieemo(_Model):
    """Encoder → PPG and emotional features → MMF → CMA → pooling → classifier.

    Arguments
    ---------
    encoder : SpeechEncoder
        The ASR backbone.
    pooling : StatisticsPooling
        Frames [B, T, H] → [B, E], one of ``POOLINGS``.
    classifier : Classifier
        [B, E] → [B, C].
    mixer : BlockMixer, WeightedSum or None
        Blocks → emotional features [B, T, D]; None: PPG alone.
    ppg_head : PPGHead or None
        Last block → PPG [B, T, V]; None: emotional features alone.
    mmf : Fusion or None
        Fusion of the streams; None: plain concatenation.
    cma : CMA or None
        Attention across frames; None: none.
    block_statistics : BlockStatistics or None
        Statistics of blocks beside the pooled frames; None: none.
    speaker_model : SpeakerModel or None
        Separates voice and emotion when the classifier is adapted to a
        speaker; measured after training by ``SpeakerModel.fitted``.

    Raises
    ------
    QieemoError
        Parts that do not fit together; the message names them.

    Example
    -------
    >>> from qieemo_sb.encoders.whisper import WhisperEncoder
    >>> dims = dict(n_mels=80, d_model=8, n_blocks=2, n_heads=2, ffn_dim=16)
    >>> model = Qieemo(
    ...     encoder=WhisperEncoder(dims=dims),
    ...     mixer=BlockMixer(blocks=[1], d_model=8),
    ...     ppg_head=PPGHead(d_model=8, n_tokens=5),
    ...     pooling=StatisticsPooling(width=6),
    ...     classifier=Classifier(width=12, n_classes=4),
    ... ).eval()
    >>> out = model(torch.randn(2, 16_000), torch.tensor([16_000, 8_000]))
    >>> out.log_probs.shape, out.embedding.shape, out.ppg.shape
    (torch.Size([2, 4]), torch.Size([2, 12]), torch.Size([2, 50, 5]))
    >>> out.frame_log_probs.shape, out.lengths
    (torch.Size([2, 50, 4]), tensor([50, 25]))
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        pooling: StatisticsPooling,
        classifier: Classifier,
        mixer: BlockMixer | None = None,
        ppg_head: PPGHead | None = None,
        mmf: Fusion | None = None,
        cma: CMA | None = None,
        block_statistics: BlockStatistics | None = None,
        speaker_model: SpeakerModel | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.mixer = mixer
        self.ppg_head = ppg_head
        self.cma = cma
        self.pooling = pooling
        self.block_statistics = block_statistics
        self.classifier = classifier
        self.speaker_model = speaker_model
        if mmf is None:
            mmf = Concatenation(
                n_tokens=self.n_tokens,
                d_model=mixer.d_model if mixer else 0,
                width=pooling.width,
            )
        self.mmf = mmf
        self._check_parts()
        blocks = [mixer.blocks if mixer else []]
        blocks += [block_statistics.blocks if block_statistics else []]
        encoder.check_blocks(blocks[0], "mixer (emotional_blocks)")
        encoder.check_blocks(blocks[1], "block_statistics")
        blocks += [[encoder.n_blocks] if ppg_head else []]
        self.blocks = sorted(set().union(*blocks))

    def forward(
        self,
        wavs: Tensor | None = None,
        lengths: Tensor | None = None,
        encoded: EncoderOutput | None = None,
        frame_wise: bool = True,
    ) -> QieemoOutput:
        """Recognise the emotion of each utterance of a batch.

        Arguments
        ---------
        wavs : torch.Tensor or None
            [B, S] at 16 kHz, any length from 25 ms.
        lengths : torch.Tensor or None
            [B] samples of each utterance; None: every row is full.
        encoded : EncoderOutput or None
            Instead of waveforms, the output of ``self.encoder`` in
            ``self.blocks``, e.g. from a cache.
        frame_wise : bool
            Return ``ppg`` and ``frame_log_probs``. Without them, memory does
            not grow with the length of the audio.

        Returns
        -------
        QieemoOutput

        Raises
        ------
        AudioError
            See ``check_batch``.
        """
        windows, frames = self._windows(wavs, lengths, encoded)
        stitcher, statistics = Stitcher(frames), PooledStatistics()
        for window in windows:
            streams = self.fuse(window)
            statistics.update(window.rows, self.pool(streams, window.lengths))
            if frame_wise:
                stitcher.update(window, self.tensors(streams))
        embedding = self.embedding(statistics.result())
        streams = stitcher.result()
        moments = None
        if frame_wise and not self.training:
            moments = self.classify_frames(streams, frames)
        return QieemoOutput(
            log_probs=self.classifier(embedding),
            embedding=embedding,
            ppg=streams.get("ppg"),
            frame_log_probs=moments,
            lengths=frames,
        )

    def embed(self, wavs: Iterable[Tensor]) -> Tensor:
        """Pooled vector of one utterance, given window by window.

        Arguments
        ---------
        wavs : iterable of torch.Tensor
            [S] each, at most 30 s, as ``frames.sample_windows`` cuts.

        Returns
        -------
        torch.Tensor
            [1, E], the embedding of ``forward`` for the whole utterance.

        Raises
        ------
        AudioError
            See ``check_batch``.
        """
        statistics = PooledStatistics()
        for wav in wavs:
            self.update(statistics, wav)
        return self.embedding(statistics.result())

    def update(self, statistics: PooledStatistics, wav: Tensor) -> None:
        """Add a window [S] of one utterance to its running statistics."""
        windows, _ = self.encoder.windows(wav[None], None, self.blocks)
        for window in windows:
            new = self.pool(self.fuse(window), window.lengths)
            statistics.update(window.rows, new)

    def fuse(self, window: Window) -> dict[str, Any]:
        """Frames to pool, by the name of their pooling, and the "ppg"."""
        hidden, lengths = window.hidden_states, window.lengths
        streams, ppg, emotional = {}, None, None
        if self.ppg_head is not None:
            ppg = self.ppg_head(hidden[self.encoder.n_blocks], lengths)
            streams["ppg"] = ppg
        if self.mixer is not None:
            emotional = self.mixer(hidden, lengths)
        frames = self.mmf(ppg, emotional, lengths)
        if self.cma is not None:
            frames = self.cma(frames, ppg, emotional, lengths)
        streams["pooling"] = frames
        if self.block_statistics is not None:
            streams["block_statistics"] = hidden
        return streams

    def tensors(self, streams: dict[str, Any]) -> dict[str, Tensor]:
        """The result of ``fuse`` with blocks side by side, as frames are."""
        if self.block_statistics is None:
            return streams
        blocks = self.block_statistics.frames(streams["block_statistics"])
        return {**streams, "block_statistics": blocks}

    @property
    def poolings(self) -> dict[str, StatisticsPooling]:
        """The poolings that the model has, by name."""
        names = ("pooling", "block_statistics")
        poolings = {name: getattr(self, name) for name in names}
        return {name: p for name, p in poolings.items() if p is not None}

    def pool(
        self, streams: dict[str, Any], lengths: torch.Tensor
    ) -> list[Statistics]:
        """Statistics of windows for each pooling, from the result of fuse."""
        return [
            pooling.update(streams[name], lengths)
            for name, pooling in self.poolings.items()
        ]

    def embedding(self, statistics: list[Statistics]) -> torch.Tensor:
        """Statistics of whole utterances for each pooling → [B, E]."""
        pairs = zip(self.poolings.values(), statistics, strict=True)
        return torch.cat([pooling.result(x) for pooling, x in pairs], dim=-1)

    def classify_frames(
        self,
        streams: dict[str, Tensor],
        lengths: Tensor,
        speaker: Moments | None = None,
    ) -> Tensor:
        """Emotions [B, T, C] of the second of speech around each frame.

        Arguments
        ---------
        streams : dict of str to torch.Tensor
            [B, T, H] each, of ``tensors``.
        lengths : torch.Tensor
            [B] frames.
        speaker : Moments or None
            As of ``Classifier``.

        Returns
        -------
        torch.Tensor
            Log-probabilities.
        """
        around = [
            pooling.around(streams[name], lengths, MOMENT)
            for name, pooling in self.poolings.items()
        ]
        vectors = (torch.cat(x, dim=-1) for x in zip(*around, strict=True))
        return torch.cat([self.classifier(x, speaker) for x in vectors], dim=1)

    def _check_parts(self):
        """Raise QieemoError for parts that do not fit together."""
        if self.mixer is None and self.ppg_head is None:
            raise QieemoError("Qieemo needs a mixer, a ppg_head, or both.")
        fusion = self.cma or (self.mmf.needs_both_streams and self.mmf)
        if fusion and None in (self.mixer, self.ppg_head):
            raise QieemoError(
                f"{type(fusion).__name__} fuses two streams: give both a mixer "
                "and a ppg_head, or set mmf and cma to null."
            )
        d_model, width = self.encoder.d_model, self.pooling.width
        streams = {
            "d_model": self.mixer.d_model if self.mixer else 0,
            "n_tokens": self.n_tokens,
        }
        size = sum(p.embedding_width for p in self.poolings.values())
        for name in ("mixer", "ppg_head", "block_statistics"):
            _check_size(name, getattr(self, name), d_model=d_model)
        for name in ("mmf", "cma"):
            _check_size(name, getattr(self, name), width=width, **streams)
        _check_size("classifier", self.classifier, width=size)
        _check_size(
            "speaker_model",
            self.speaker_model,
            width=size,
            n_classes=self.classifier.n_classes,
        )


class PooledStatistics:
    """Running statistics of utterances, for each of a model's poolings."""

    def __init__(self):
        self._rows: dict[int, list[Statistics]] = {}

    def update(self, rows: list[int], statistics: list[Statistics]) -> None:
        """Add N windows of utterances ``rows``: [N, H] of each pooling."""
        # Merged at once: small tensors kept between large ones would keep the
        # allocator from reusing memory.
        for i, row in enumerate(rows):
            new = [Statistics(*(x[i : i + 1] for x in s)) for s in statistics]
            if row in self._rows:
                pairs = zip(self._rows[row], new, strict=True)
                new = [before.merge(after) for before, after in pairs]
            self._rows[row] = new

    def result(self) -> list[Statistics]:
        """Statistics [B, H] of each pooling."""
        rows = [self._rows[row] for row in sorted(self._rows)]
        return [
            Statistics(*map(torch.cat, zip(*each, strict=True)))
            for each in zip(*rows, strict=True)
        ]


def build_model(config: dict[str, Any]) -> Qieemo | PPGModel:
    """Build a model with fresh weights.

    Arguments
    ---------
    config : dict
        A model's ``config``: "model", and for each part "class", a key of its
        dictionary in ``PARTS``, beside the class's arguments.

    Returns
    -------
    Qieemo or PPGModel

    Raises
    ------
    ModelFolderError
        There is no such model, part or class, or arguments do not fit.

    Example
    -------
    >>> encoder = dict(n_mels=80, d_model=8, n_blocks=2, n_heads=2, ffn_dim=16)
    >>> model = build_model(
    ...     {
    ...         "model": "PPGModel",
    ...         "encoder": {"class": "WhisperEncoder", "dims": encoder},
    ...         "ppg_head": {"class": "PPGHead", "d_model": 8, "n_tokens": 5},
    ...     }
    ... )
    >>> model.config["ppg_head"]["hidden"]
    256
    """
    models = {"Qieemo": Qieemo, "PPGModel": PPGModel}
    config = dict(config)
    model = _lookup(models, config.pop("model", None), "model")
    parts = {}
    for name, arguments in config.items():
        classes = _lookup(PARTS, name, "part")
        arguments = dict(arguments) if isinstance(arguments, dict) else {}
        part = _lookup(classes, arguments.pop("class", None), name)
        if "source" in arguments:  # a model folder must not download another
            raise ModelFolderError(f"{name} must have dims, not a source.")
        parts[name] = _build(name, part, arguments)
    return _build("model", model, parts)


def _lookup(choices, key, kind):
    """The value of a key; ModelFolderError lists the keys that there are."""
    if not isinstance(key, str) or key not in choices:
        raise ModelFolderError(
            f"There is no {kind} {key!r}: known are {', '.join(choices)}."
        )
    return choices[key]


def _build(name, constructor, arguments):
    """Build a part; ModelFolderError if its arguments do not fit."""
    try:
        return constructor(**arguments)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ModelFolderError(f"{name} cannot be built: {error}") from error


def _check_size(name, part, **expected):
    """Raise QieemoError if a part was built for another size."""
    for argument, size in expected.items():
        found = size if part is None else part.config.get(argument, size)
        if found != size:
            raise QieemoError(
                f"Qieemo: {name} has {argument} {found} where {size} is needed."
            )

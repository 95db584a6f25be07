"""Qieemo: an ASR encoder, its two views of speech, fusion, and an emotion."""

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from qieemo_sb.encoders.base import EncoderOutput, SpeechEncoder
from qieemo_sb.frames import WINDOW_FRAMES, frame_windows
from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.fusion import CMA, MMF, Concatenation
from qieemo_sb.lobes.pooling import BlockStatistics, StatisticsPooling, merge
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.lobes.speaker import SpeakerModel
from qieemo_sb.rebuild import Rebuildable

MOMENT = 51  # frames around each frame that its own emotion is read from: 1 s


@dataclasses.dataclass
class QieemoOutput:
    """What Qieemo says of a batch.

    Arguments
    ---------
    log_probs : torch.Tensor or None
        [B, C] emotion log-probabilities of each utterance; None where the
        model only reads, as do the next and ``frame_log_probs``.
    embedding : torch.Tensor or None
        [B, E] pooled vector.
    ppg : torch.Tensor or None
        [B, T, V] token log-probabilities of each frame; None without a PPG
        and where no frame-wise results were asked for.
    frame_log_probs : torch.Tensor or None
        [B, T, C] emotion log-probabilities of the second of speech around
        each frame; None in training and where they were not asked for.
    lengths : torch.Tensor
        [B] frames. What lies past them means nothing.
    """

    log_probs: torch.Tensor | None
    embedding: torch.Tensor | None
    ppg: torch.Tensor | None
    frame_log_probs: torch.Tensor | None
    lengths: torch.Tensor


class Qieemo(Rebuildable):
    """Encoder → PPG and emotional features → MMF → CMA → pooling → classifier.

    With an encoder and a PPG head alone it is what stage 1 trains: it reads,
    and knows no emotion.

    Arguments
    ---------
    encoder : SpeechEncoder
        The ASR backbone.
    pooling : StatisticsPooling, AveragePooling or None
        Frames [B, T, H] → [B, E]; None: a model that only reads.
    classifier : Classifier or None
        [B, E] → [B, C]; None as ``pooling``.
    mixer : BlockMixer, WeightedSum or None
        Blocks → emotional features [B, T, D]; None: PPG alone.
    ppg_head : PPGHead or None
        Last block → PPG [B, T, V]; None: emotional features alone.
    mmf : MMF, CMAFirst, Concatenation, Projection or None
        Fusion of the streams; None: plain concatenation.
    cma : CMA or None
        Attention across frames; None: none.
    block_statistics : BlockStatistics or None
        Statistics of blocks beside the pooled frames; None: none.
    speaker_model : SpeakerModel or None
        Tells voice from emotion when the classifier is adapted to a speaker;
        measured after training, by ``SpeakerModel.fitted``.

    Raises
    ------
    ValueError
        Parts that do not fit together; the message names them.

    Example
    -------
    >>> from qieemo_sb.encoders.whisper import WhisperEncoder
    >>> dims = dict(n_mels=80, d_model=8, n_blocks=2, n_heads=2, ffn_dim=16)
    >>> model = Qieemo(
    ...     encoder=WhisperEncoder(dims=dims),
    ...     mixer=BlockMixer(blocks=[1], d_model=8),
    ...     ppg_head=PPGHead(d_model=8, n_tokens=5),
    ...     mmf=MMF(n_tokens=5, d_model=8, width=6),
    ...     cma=CMA(n_tokens=5, d_model=8, width=6, heads=2),
    ...     pooling=StatisticsPooling(width=6),
    ...     classifier=Classifier(width=12, n_classes=4),
    ... ).eval()
    >>> out = model(torch.randn(2, 16_000), torch.tensor([1.0, 0.5]))
    >>> out.log_probs.shape, out.embedding.shape, out.ppg.shape
    (torch.Size([2, 4]), torch.Size([2, 12]), torch.Size([2, 50, 5]))
    >>> out.frame_log_probs.shape, out.lengths
    (torch.Size([2, 50, 4]), tensor([50, 25]))
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        pooling: StatisticsPooling | None = None,
        classifier: Classifier | None = None,
        mixer: BlockMixer | None = None,
        ppg_head: PPGHead | None = None,
        mmf: MMF | None = None,
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
        self._check_streams(mmf)
        if mmf is None and pooling is not None:
            mmf = self._concatenation()
        self.mmf = mmf

    def rebuild_config(self) -> dict[str, Any]:
        """As ``Remembering``; a speaker model may have come after training."""
        return {**self.config, "speaker_model": self.speaker_model}

    @property
    def blocks(self) -> list[int]:
        """Blocks of the encoder that the model reads, sorted."""
        blocks = set(self.mixer.blocks if self.mixer else [])
        statistics = self.block_statistics
        blocks |= set(statistics.blocks if statistics else [])
        blocks |= {self.encoder.n_blocks} if self.ppg_head else set()
        return sorted(blocks)

    @property
    def lobes(self) -> torch.nn.ModuleDict:
        """What is trained beside the encoder, by name."""
        others = ("encoder", "speaker_model")
        return torch.nn.ModuleDict(
            {k: v for k, v in self.named_children() if k not in others}
        )

    def forward(
        self,
        wavs: torch.Tensor | None = None,
        wav_lens: torch.Tensor | None = None,
        encoded: EncoderOutput | None = None,
        frame_wise: bool = True,
    ) -> QieemoOutput:
        """Recognise the emotion of each utterance of a batch.

        Arguments
        ---------
        wavs : torch.Tensor or None
            [B, S] at 16 kHz, any length from 25 ms.
        wav_lens : torch.Tensor or None
            [B] relative lengths; None: every row is full.
        encoded : EncoderOutput or None
            Instead of waveforms, what ``self.encoder`` said of them in
            ``self.blocks``: a frozen encoder need not say it twice.
        frame_wise : bool
            Whether ``ppg`` and ``frame_log_probs`` are wanted. Without them,
            memory does not grow with the length of the audio.

        Returns
        -------
        QieemoOutput

        Raises
        ------
        ValueError
            See ``SpeechEncoder.forward``.
        """
        # No two batches have the same lengths: what is worth compiling is
        # compiled by the encoder's compile_blocks. As a decorator, "disable"
        # would import the compiler, which takes a second, for everybody.
        answer = type(self)._answer
        if "torch._dynamo" in sys.modules:
            answer = torch.compiler.disable(answer)
        return answer(self, wavs, wav_lens, encoded, frame_wise)

    def _answer(self, wavs, wav_lens, encoded, frame_wise):
        """What ``forward`` says."""
        read, statistics = self._reader(frame_wise)
        if encoded is None:
            fused, lengths = self.encoder.map_windows(
                read, wavs, wav_lens, self.blocks
            )
        else:
            fused, lengths = _map_frames(read, encoded), encoded.lengths
        if self.pooling is None:
            return QieemoOutput(None, None, fused.get("ppg"), None, lengths)
        counts = [len(frame_windows(t)) for t in lengths.tolist()]
        embedding = self._join(statistics, counts)
        moments = None
        if frame_wise and not self.training:
            moments = self._classify_frames(fused, lengths)
        return QieemoOutput(
            log_probs=self.classifier(embedding),
            embedding=embedding,
            ppg=fused.get("ppg"),
            frame_log_probs=moments,
            lengths=lengths,
        )

    def embed_windows(self, windows: Iterable[torch.Tensor]) -> torch.Tensor:
        """Pooled vector of one utterance that comes piece by piece.

        Arguments
        ---------
        windows : iterable of torch.Tensor
            [S] each, at most 30 s, as ``frames.sample_windows`` cuts.

        Returns
        -------
        torch.Tensor
            [1, E], as ``forward`` gives for the whole.

        Raises
        ------
        ValueError
            See ``SpeechEncoder.forward``.
        """
        read, statistics = self._reader(frame_wise=False)
        for wav in windows:
            self.encoder.map_windows(read, wav[None], None, self.blocks)
            # One at a time: small results between large ones would keep the
            # allocator from using the same memory again.
            if len(statistics) > 1:
                statistics[:] = [list(map(merge, *statistics))]
        return self._join(statistics, [len(statistics)])

    def _reader(self, frame_wise):
        """Make a function for ``map_windows``, and the list that it fills.

        The function gives frame-wise results if they are wanted; the list
        gets each window's statistics, a list with those of each pooling.
        """
        statistics = []

        def read(windows):
            fused = self._fuse(windows)
            statistics.append(
                [
                    pooling.statistics(fused[name], windows.lengths)
                    for name, pooling in self._poolings.items()
                ]
            )
            if not frame_wise:
                return {}
            if self.block_statistics is not None:
                fused["blocks"] = self.block_statistics.frames(fused["blocks"])
            return fused

        return read, statistics

    def _fuse(self, encoded):
        """Windows of at most 30 s → what is pooled, and the PPG [N, T, V].

        Pooled are "frames" [N, T, H] and "blocks", block → [N, T, D].
        """
        hidden, lengths = encoded.hidden_states, encoded.lengths
        fused, ppg, emotional = {}, None, None
        if self.ppg_head is not None:
            ppg = self.ppg_head(hidden[self.encoder.n_blocks], lengths)
            fused["ppg"] = ppg
        if self.pooling is None:
            return fused
        if self.mixer is not None:
            emotional = self.mixer(hidden, lengths)
        frames = self.mmf(ppg, emotional, lengths)
        if self.cma is not None:
            frames = self.cma(frames, ppg, emotional, lengths)
        fused["frames"] = frames
        if self.block_statistics is not None:
            fused["blocks"] = hidden
        return fused

    @property
    def _poolings(self):
        """What is pooled, by its name in the result of ``_fuse``."""
        parts = {"frames": self.pooling, "blocks": self.block_statistics}
        return {name: part for name, part in parts.items() if part is not None}

    def _join(self, statistics, counts):
        """Windows' statistics → embedding [B, E]; see ``pooling.join``."""
        joined = [
            pooling.join([own[i] for own in statistics], counts)
            for i, pooling in enumerate(self._poolings.values())
        ]
        return torch.cat(joined, dim=-1)

    def _classify_frames(self, fused, lengths):
        """Frames [B, T, H] → emotions [B, T, C] of the second around each."""
        around = [
            pooling.around(fused[name], lengths, MOMENT)
            for name, pooling in self._poolings.items()
        ]
        return torch.cat(
            [
                self.classifier(torch.cat(parts, dim=-1))
                for parts in zip(*around, strict=True)
            ],
            dim=1,
        )

    def _check_streams(self, mmf):
        """Raise ValueError for parts that do not fit together."""
        if self.mixer is None and self.ppg_head is None:
            raise ValueError("Qieemo needs a mixer, a ppg_head, or both.")
        self._check_purpose(mmf)
        fused = self.cma or isinstance(mmf, MMF)
        if None in (self.mixer, self.ppg_head) and fused:
            raise ValueError(
                "MMF and CMA fuse two streams: give both a mixer and a "
                "ppg_head, or set mmf and cma to null."
            )
        if self.mixer is not None:
            self.encoder.check_blocks(self.mixer.blocks)
            self._check("mixer", self.mixer, d_model=self.encoder.d_model)
        if self.ppg_head is not None:
            self._check("ppg_head", self.ppg_head, d_model=self.encoder.d_model)
        if self.pooling is None:
            return
        size = sum(part.embedding_width for part in self._poolings.values())
        self._check("classifier", self.classifier, width=size)
        if self.speaker_model is not None:
            names = self.classifier.n_classes
            self._check(
                "speaker_model",
                self.speaker_model,
                width=size,
                n_classes=names,
            )
        if self.block_statistics is not None:
            self.encoder.check_blocks(self.block_statistics.blocks)
            self._check(
                "block_statistics",
                self.block_statistics,
                d_model=self.encoder.d_model,
            )
        for name, part in (("mmf", mmf), ("cma", self.cma)):
            if part is not None:
                self._check(
                    name,
                    part,
                    width=self.pooling.width,
                    d_model=self.mixer.d_model if self.mixer else 0,
                    n_tokens=self.ppg_head.n_tokens if self.ppg_head else 0,
                )

    def _check_purpose(self, mmf):
        """Raise ValueError for what is neither a reader nor a classifier."""
        if (self.pooling is None) != (self.classifier is None):
            raise ValueError(
                "Qieemo: give both pooling and classifier, or neither for a "
                "model that only reads."
            )
        beyond = (self.mixer, mmf, self.cma, self.block_statistics)
        if self.pooling is None and any(part is not None for part in beyond):
            raise ValueError(
                "Qieemo without pooling and classifier only reads: mixer, "
                "mmf, cma and block_statistics must be null too."
            )

    @staticmethod
    def _check(name, part, **expected):
        """Raise ValueError if a part was made for another shape."""
        for argument, size in expected.items():
            found = vars(part).get(argument, part.config.get(argument, size))
            if found != size:
                raise ValueError(
                    f"Qieemo: {name} has {argument} {found} where {size} is "
                    "needed."
                )

    def _concatenation(self):
        return Concatenation(
            n_tokens=self.ppg_head.n_tokens if self.ppg_head else 0,
            d_model=self.mixer.d_model if self.mixer else 0,
            width=self.pooling.width,
        )


def _map_frames(function, encoded):
    """``SpeechEncoder.map_windows`` for what an encoder has said already."""
    if int(encoded.lengths.max()) <= WINDOW_FRAMES:
        return function(encoded)
    rows = []
    for row, frames in enumerate(encoded.lengths.tolist()):
        pieces = []
        for start, end in frame_windows(frames):
            window = {
                k: h[None, row, start:end]
                for k, h in encoded.hidden_states.items()
            }
            size = encoded.lengths.new_tensor([end - start])
            pieces.append(function(EncoderOutput(window, size)))
        rows.append(
            {k: torch.cat([p[k][0] for p in pieces]) for k in pieces[0]}
        )
    return {k: pad_sequence([r[k] for r in rows], True) for k in rows[0]}

"""An exported Qieemo in a program: wav in, emotion out, without torch.

Needs numpy, soundfile and onnxruntime, and starts in a fraction of a second.
``qieemo export`` makes the folder from a trained model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qieemo_sb.audio import check_batch, read_audio
from qieemo_sb.errors import AudioError, ModelFolderError
from qieemo_sb.serving.folder import LABELS, read_labels
from qieemo_sb.serving.onnx import GRAPH, GRAPH_FORMAT

if TYPE_CHECKING:
    import onnxruntime


class OnnxOutput(NamedTuple):
    """What an exported Qieemo says of an utterance.

    Arguments
    ---------
    log_probs : np.ndarray
        [1, C] emotion log-probabilities.
    embedding : np.ndarray
        [1, E] pooled vector.
    ppg : np.ndarray or None
        [1, T, V] token log-probabilities of each frame; None without a PPG.
    """

    log_probs: np.ndarray
    embedding: np.ndarray
    ppg: np.ndarray | None


class OnnxClassifier:
    """Answers from a folder that ``qieemo export`` made.

    ``classify_file``, ``classify_batch`` and ``encode_batch`` are those of
    EncoderClassifier, in numpy.

    Arguments
    ---------
    session : onnxruntime.InferenceSession
        Of the graph.
    labels : list of str
        Emotions in the order of the log-probabilities.

    To classify a file::

        classifier = OnnxClassifier.from_folder("exported")
        log_probs, score, index, emotion = classifier.classify_file("a.wav")
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, labels: list[str]
    ):
        self.session = session
        self.labels = labels

    @classmethod
    def from_folder(
        cls, folder: str | Path, threads: int | None = None
    ) -> OnnxClassifier:
        """Load an export.

        Arguments
        ---------
        folder : str or Path
            What ``qieemo export`` made.
        threads : int or None
            Of the computation; None: one a physical core.

        Returns
        -------
        OnnxClassifier

        Raises
        ------
        ModelFolderError
            The folder is not whole, or of another version of this package.
        ImportError
            onnxruntime is not installed.
        """
        path = Path(folder) / GRAPH
        if not path.is_file():
            raise ModelFolderError(f"{folder} is no ONNX export: no {GRAPH}.")
        session = _session(path, threads)
        form = session.get_modelmeta().custom_metadata_map.get("format")
        if form != GRAPH_FORMAT:
            raise ModelFolderError(
                f"{path} has format {form} where {GRAPH_FORMAT} is needed: "
                "export the model again."
            )
        n_classes = session.get_outputs()[0].shape[-1]
        return cls(session, read_labels(path.with_name(LABELS), n_classes))

    def analyse(self, wav: np.ndarray) -> OnnxOutput:
        """Everything that the model says of an utterance.

        Arguments
        ---------
        wav : np.ndarray
            [S] at 16 kHz, of any length from 25 ms.

        Returns
        -------
        OnnxOutput

        Raises
        ------
        ValueError
            Too short, samples that are no sound, or more than one utterance.
        """
        if np.ndim(wav) != 1:
            raise ValueError(
                f"An utterance is [S], not of shape {np.shape(wav)}: give "
                "classify_batch several."
            )
        return self._analyse(_utterances(wav, None))[0]

    def encode_batch(
        self,
        wavs: np.ndarray | Sequence[np.ndarray],
        wav_lens: np.ndarray | None = None,
    ) -> np.ndarray:
        """Pooled vectors [B, E]; arguments as in ``classify_batch``."""
        outputs = self._analyse(_utterances(wavs, wav_lens))
        return np.concatenate([output.embedding for output in outputs])

    def classify_batch(
        self,
        wavs: np.ndarray | Sequence[np.ndarray],
        wav_lens: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """Emotions of several utterances, each computed by itself.

        Arguments
        ---------
        wavs : np.ndarray or sequence of np.ndarray
            [B, S] or [S] at 16 kHz, or B arrays [S] of their own lengths.
        wav_lens : np.ndarray or None
            [B] lengths relative to S; None: every row is full.

        Returns
        -------
        out_prob : np.ndarray
            [B, C] log-probabilities.
        score : np.ndarray
            [B] the best one.
        index : np.ndarray
            [B] its index.
        text_lab : list of str
            Its emotion.

        Raises
        ------
        ValueError
            Too short, or samples that are no sound; names the utterance.
        """
        outputs = self._analyse(_utterances(wavs, wav_lens))
        log_probs = np.concatenate([output.log_probs for output in outputs])
        index = log_probs.argmax(axis=-1)
        score = log_probs.max(axis=-1)
        return log_probs, score, index, [self.labels[i] for i in index]

    def classify_file(
        self, path: str | Path
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """Emotion of an audio file of any rate, channels and length.

        Arguments
        ---------
        path : str or Path
            A local file.

        Returns
        -------
        tuple
            As ``classify_batch``, with B = 1.

        Raises
        ------
        AudioError
            Missing, empty, corrupt, too short, or no sound; names the file.
        """
        return self.classify_batch(read_audio(path))

    def _analyse(self, utterances):
        """Run the graph on each utterance [S]."""
        for wav in utterances:
            check_batch(wav[None])
        names = [output.name for output in self.session.get_outputs()]
        results = (
            self.session.run(names, {"wav": wav[None]}) for wav in utterances
        )
        return [
            OnnxOutput(**{"ppg": None, **dict(zip(names, r, strict=True))})
            for r in results
        ]


def _session(path, threads):
    """Load a graph into onnxruntime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "onnxruntime is needed: pip install 'qieemo-sb[onnx]'"
        ) from error

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; what is wrong is raised
    # Threads that spin while they wait slow down whatever else is running.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of a dozen classes without a common base
        raise ModelFolderError(
            f"{path} is damaged, or a file beside it is missing: {error}"
        ) from error


def _utterances(wavs, wav_lens):
    """A batch → its utterances, [S] each."""
    single = len(wavs) == 0 or np.ndim(wavs[0]) == 0
    rows = [wavs] if single else wavs
    rows = [_utterance(row) for row in rows]
    if wav_lens is None:
        return rows
    lengths = np.asarray(wav_lens, np.float64)
    ends = np.rint(lengths * len(rows[0])).astype(int)
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


def _utterance(row):
    """Samples [S] in float32."""
    row = np.asarray(row)
    if row.dtype.kind != "f":
        raise AudioError(
            f"Waveforms are {row.dtype}: give floating-point samples from -1 "
            "to 1 (those of int16 divided by 32768)."
        )
    if row.ndim != 1:
        raise ValueError(f"A row of a batch is [S], not of shape {row.shape}.")
    return row.astype(np.float32, copy=False)

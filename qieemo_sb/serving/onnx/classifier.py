"""An exported Qieemo in a program: wav in, emotion out, without torch.

Needs numpy, soundfile and onnxruntime, and starts in a fraction of a second.
``qieemo export`` makes the folder from a trained model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qieemo_sb.audio import check_batch, read_windows
from qieemo_sb.errors import AudioError, ModelFolderError
from qieemo_sb.frames import MIN_SAMPLES, SAMPLE_RATE, sample_windows
from qieemo_sb.serving.folder import (
    LABELS,
    TOKENS,
    check_facts,
    check_files,
    read_json,
    read_labels,
)
from qieemo_sb.serving.predictor import (
    Predictor,
    check_output,
    check_threshold,
)
from qieemo_sb.serving.results import UNKNOWN

if TYPE_CHECKING:
    import onnxruntime

GRAPH = "model.onnx"
GRAPH_WEIGHTS = "model.onnx.data"
EXPORT = "export.json"  # format, weights' type and checksums
GRAPH_FORMAT = 2  # raised when the inputs or outputs of a graph change
# Of NumPy and torch, for what are no numbers
ERRORS = (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError)
EMPTY = -1e30  # logarithm of the weight of no frames
SECONDS = 30.0  # that a graph may take for 25 ms; it takes a few hundredths


class OnnxOutput(NamedTuple):
    """Model output for an utterance.

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


class OnnxClassifier(Predictor):
    """Emotions by an export of ``qieemo export``.

    ``classify_file``, ``classify_batch`` and ``encode_batch`` are those of
    EncoderClassifier, in numpy. ::

        classifier = OnnxClassifier.from_folder("exported")
        log_probs, score, index, emotion = classifier.classify_file("a.wav")

    Arguments
    ---------
    session : onnxruntime.InferenceSession
        Of the graph.
    labels : list of str
        Emotions in the order of the log-probabilities.
    threshold : float
        Least probability of an emotion, 0 to 1: one below is "unknown".
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        labels: list[str],
        threshold: float = 0.0,
    ):
        self.session = session
        self.labels = labels
        self.threshold = check_threshold(threshold)
        # Statistics of no windows: those that the first window follows.
        self._empty = {
            value.name: np.full(
                value.shape,
                EMPTY if value.name.endswith("log_weight") else 0.0,
                np.float32,
            )
            for value in session.get_inputs()
            if value.name != "wav"
        }

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        threads: int | None = None,
        threshold: float = 0.0,
    ) -> OnnxClassifier:
        """Load an export.

        Arguments
        ---------
        folder : str or Path
            Of ``qieemo export``.
        threads : int or None
            Of the computation; None: one a physical core.
        threshold : float
            See the class.

        Returns
        -------
        OnnxClassifier

        Raises
        ------
        ModelFolderError
            The folder is incomplete, damaged, or of another release. One that
            was made to harm can still take all memory: a graph is a program.
        ImportError
            onnxruntime is not installed.
        QieemoError
            The threshold is not 0 to 1.
        """
        folder = Path(folder)
        if not (folder / GRAPH).is_file():
            raise ModelFolderError(f"{folder} is no ONNX export: no {GRAPH}.")
        path = folder / EXPORT
        about = read_json(path) if path.is_file() else None
        if not isinstance(about, dict) or about.get("format") != GRAPH_FORMAT:
            raise ModelFolderError(
                f"{folder} is an export of another release, which this one "
                "cannot read: export the model again."
            )
        check_threshold(threshold)
        check_facts(path, about, {GRAPH, GRAPH_WEIGHTS, LABELS}, {TOKENS})
        check_files(folder, about["sha256"], source=EXPORT)
        session = load_graph(folder / GRAPH, threads)
        try:
            classifier = cls(session, [], threshold)
            n_classes = classifier._try_graph()
        except Exception as error:  # of a dozen classes, as in load_graph
            raise ModelFolderError(
                f"{folder / GRAPH} is damaged: {error!r}"
            ) from error
        classifier.labels = read_labels(folder / LABELS, n_classes)
        return classifier

    def running(self) -> Utterance:
        """A new utterance, to be heard window by window."""
        return Utterance(self.session, self._empty)

    def analyse(self, wav: np.ndarray) -> OnnxOutput:
        """All outputs of the model for an utterance.

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
        return self._analyse_batch([wav], None)[0]

    def encode_batch(
        self,
        wavs: np.ndarray | Sequence,
        wav_lens: np.ndarray | Sequence[float] | None = None,
    ) -> np.ndarray:
        """Pooled vectors [B, E]; arguments as in ``classify_batch``."""
        outputs = self._analyse_batch(wavs, wav_lens)
        return np.concatenate([output.embedding for output in outputs])

    def classify_batch(
        self,
        wavs: np.ndarray | Sequence,
        wav_lens: np.ndarray | Sequence[float] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """Emotions of several utterances, each computed by itself.

        As many at once as there are threads.

        Arguments
        ---------
        wavs : np.ndarray or sequence
            [B, S] or [S] at 16 kHz, or B rows [S] of their own lengths.
        wav_lens : np.ndarray, sequence of float or None
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
            Its emotion, or "unknown" below the threshold.

        Raises
        ------
        ValueError
            Too short, or samples that are no sound; names the utterance.
        """
        outputs = self._analyse_batch(wavs, wav_lens)
        return self._choose(np.concatenate([x.log_probs for x in outputs]))

    def classify_file(
        self, path: str | Path
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """Emotion of an audio file of any rate, channels and length.

        Two hours take no more memory than a minute.

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
        utterance = self.running()
        for window in read_windows(path):
            utterance.update(window)
        return self._choose(utterance.outputs["log_probs"])

    def _try_graph(self):
        """Hear two short windows; returns C, or raises what is wrong.

        A graph is a program: it may lack an output, or never end.
        """
        import onnxruntime

        options = onnxruntime.RunOptions()
        timer = threading.Timer(SECONDS, setattr, (options, "terminate", True))
        timer.start()
        try:
            utterance = self.running()
            for _ in range(2):
                utterance.update(np.zeros(MIN_SAMPLES, np.float32), options)
        finally:
            timer.cancel()
        if len(utterance.outputs["embedding"]) != 1:
            raise ValueError("it gives more than one embedding")
        check_output(utterance.log_probs())
        (n_classes,) = utterance.log_probs().shape
        return n_classes

    def _choose(self, log_probs):
        """Log-probabilities [B, C] → the result of ``classify_batch``."""
        check_output(log_probs)
        index = log_probs.argmax(axis=-1)
        score = log_probs.max(axis=-1)
        emotions = [
            UNKNOWN if probability < self.threshold else self.labels[i]
            for i, probability in zip(index, np.exp(score), strict=True)
        ]
        return log_probs, score, index, emotions

    def _analyse_batch(self, wavs, wav_lens):
        """Outputs for each utterance of a batch, one a thread at a time.

        A graph alone leaves threads idle wherever an operation is small.
        """
        utterances = _utterances(wavs, wav_lens)
        if len(utterances) == 1:
            return [self._analyse(utterances[0])]
        from concurrent.futures import ThreadPoolExecutor  # slow to import

        options = self.session.get_session_options()
        with ThreadPoolExecutor(
            options.intra_op_num_threads or os.cpu_count()
        ) as pool:
            return list(pool.map(self._analyse, utterances))

    def _analyse(self, wav):
        """OnnxOutput for an utterance [S]."""
        utterance, ppg = self.running(), []
        for start, end in sample_windows(len(wav)):
            utterance.update(wav[start:end])
            if "ppg" in utterance.outputs:
                ppg.append(utterance.outputs["ppg"])
        return OnnxOutput(
            log_probs=utterance.outputs["log_probs"],
            embedding=utterance.outputs["embedding"],
            ppg=np.concatenate(ppg, axis=1) if ppg else None,
        )


class Utterance:
    """An utterance that a graph hears window by window.

    Arguments
    ---------
    session : onnxruntime.InferenceSession
        Of the graph.
    statistics : dict of str to np.ndarray
        Those of no windows.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        statistics: dict[str, np.ndarray],
    ):
        self._session = session
        self._statistics = statistics
        self._names = [output.name for output in session.get_outputs()]
        self.outputs: dict[str, np.ndarray] = {}  # after the last window
        self.seconds = 0.0

    def update(
        self,
        window: np.ndarray,
        options: onnxruntime.RunOptions | None = None,
    ) -> None:
        """Hear a window [S] of at most 30 s, as ``Windows`` cuts."""
        inputs = {"wav": window[None], **self._statistics}
        values = self._session.run(None, inputs, options)
        self.outputs = dict(zip(self._names, values, strict=True))
        self._statistics = {
            name: self.outputs[f"next_{name}"] for name in self._statistics
        }
        self.seconds += len(window) / SAMPLE_RATE

    def log_probs(self, speaker: None = None) -> np.ndarray:
        """Emotion log-probabilities [C] of all that was heard.

        Raises
        ------
        ModelFolderError
            A speaker is given: an export cannot adapt.
        """
        if speaker is not None:
            raise ModelFolderError(
                "An export cannot adapt to a speaker: use the model that it "
                "was made of."
            )
        return self.outputs["log_probs"][0]


def load_graph(
    path: Path, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """Load a graph into onnxruntime; arguments as of ``from_folder``."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "onnxruntime is needed: pip install 'qieemo-sb[onnx]'"
        ) from error

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = 4  # none: what is wrong is raised
    # Threads that spin while they wait slow down whatever else is running.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of a dozen classes without a common base
        raise ModelFolderError(f"{path} is damaged: {error}") from error


def _utterances(wavs, wav_lens):
    """A batch → its utterances, [S] each, checked."""
    try:
        single = len(wavs) == 0 or np.ndim(wavs[0]) == 0
        rows = [np.asarray(row) for row in ([wavs] if single else wavs)]
        if wav_lens is not None:
            relative = np.asarray(wav_lens, np.float64).tolist()
            sizes = [round(length * len(rows[0])) for length in relative]
    except ERRORS as error:
        raise AudioError(
            f"wavs and wav_lens must be numbers, in rows: {error}"
        ) from error
    for row in rows:
        if row.ndim != 1 or row.dtype.kind != "f":
            check_batch(row[None])  # raises
    lengths = [len(row) for row in rows]
    padded = np.zeros((len(rows), max(lengths)), np.float32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    sizes = lengths if wav_lens is None else sizes
    check_batch(padded, sizes)
    return [row[:size] for row, size in zip(padded, sizes, strict=True)]

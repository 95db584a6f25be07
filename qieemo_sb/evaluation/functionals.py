"""The classical baseline: eGeMAPS functionals and a support vector machine.

88 statistics of pitch, loudness and spectrum an utterance (Eyben et al.,
2016), as openSMILE computes them.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from qieemo_sb.audio import read_audio
from qieemo_sb.corpora.manifest import identity, replacing
from qieemo_sb.evaluation.scores import fit_predict
from qieemo_sb.evaluation.tables import import_extra
from qieemo_sb.frames import SAMPLE_RATE

FEATURE_SET = "eGeMAPSv02"


def egemaps() -> Callable[[np.ndarray], np.ndarray]:
    """Make an extractor.

    Returns
    -------
    callable
        Samples [S] at 16 kHz → functionals [88].

    Raises
    ------
    EvaluationError
        openSMILE is not installed.
    """
    opensmile = import_extra("opensmile", "bench")
    level = opensmile.FeatureLevel.Functionals
    smile = opensmile.Smile(opensmile.FeatureSet[FEATURE_SET], level)
    return lambda samples: smile(samples, SAMPLE_RATE).reshape(-1)


def functionals(
    wavs: Iterable[str | Path],
    folder: str | Path,
    make_extractor: Callable[[], Callable] = egemaps,
) -> np.ndarray:
    """Functionals of files, computed once and kept on disk.

    Arguments
    ---------
    wavs : iterable of str or Path
        N audio files.
    folder : str or Path
        Keeps them.
    make_extractor : callable
        See ``egemaps``; not called if all is there.

    Returns
    -------
    numpy.ndarray
        [N, 88], in the order of the files.

    Raises
    ------
    AudioError
        A file cannot be used; names it.
    """
    wavs, folder = list(wavs), Path(folder) / FEATURE_SET
    paths = {wav: folder / f"{identity(wav)}.npy" for wav in wavs}
    missing = [wav for wav, path in paths.items() if not path.exists()]
    if missing:
        extract = make_extractor()
        for wav in tqdm(missing, desc=FEATURE_SET):
            values = np.asarray(extract(read_audio(wav)), dtype=np.float32)
            with replacing(paths[wav]) as partial:
                np.save(partial, values)
    return np.stack([np.load(paths[wav]) for wav in wavs])


def svm(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Fit a support vector machine (RBF, C = 3) to standardised features.

    Arguments
    ---------
    train : numpy.ndarray
        [N, F].
    targets : numpy.ndarray
        [N] class indices.
    test : numpy.ndarray
        [M, F].

    Returns
    -------
    numpy.ndarray
        [M] predicted class indices.

    Raises
    ------
    EvaluationError
        scikit-learn is not installed.
    """
    machine = import_extra("sklearn.svm", "bench").SVC(C=3)
    return fit_predict(machine, train, targets, test)

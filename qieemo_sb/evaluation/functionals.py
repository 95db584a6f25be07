"""The classical baseline: eGeMAPS functionals and a support vector machine.

88 statistics of pitch, loudness and spectrum an utterance (Eyben et al.,
2016), as openSMILE computes them.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from qieemo_sb.audio import read_audio
from qieemo_sb.corpora.files import identity, replacing
from qieemo_sb.errors import EvaluationError
from qieemo_sb.frames import SAMPLE_RATE

FEATURE_SET = "eGeMAPSv02"
SVM_C = 3


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
    try:
        import opensmile
    except ImportError as error:
        raise EvaluationError(
            "eGeMAPS needs openSMILE: pip install 'qieemo-sb[bench]'"
        ) from error
    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet[FEATURE_SET],
        feature_level=opensmile.FeatureLevel.Functionals,
    )

    def extract(samples):
        return smile.process_signal(samples, SAMPLE_RATE).to_numpy()[0]

    return extract


def functionals(
    wavs: Iterable[str | Path],
    folder: str | Path,
    make_extractor: Callable[[], Callable] = egemaps,
) -> list[np.ndarray]:
    """Functionals of files, computed once and kept on disk.

    Arguments
    ---------
    wavs : iterable of str or Path
        Audio files.
    folder : str or Path
        Keeps them.
    make_extractor : callable
        See ``egemaps``; not called if all is there.

    Returns
    -------
    list of numpy.ndarray
        A file's [88], in the order of the files.

    Raises
    ------
    AudioError
        A file cannot be used; names it.
    """
    wavs, folder = list(wavs), Path(folder) / FEATURE_SET
    paths = {wav: folder / f"{identity(wav)}.npy" for wav in wavs}
    missing = [wav for wav, path in paths.items() if not path.exists()]
    extract = make_extractor() if missing else None
    for wav in tqdm(missing, desc=FEATURE_SET, disable=not missing):
        values = extract(read_audio(wav).numpy())
        with replacing(paths[wav]) as partial:
            np.save(partial, np.asarray(values, dtype=np.float32))
    return [np.load(paths[wav]) for wav in wavs]


def svm(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Fit a support vector machine (RBF) to standardised features and answer.

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
        [M] class indices.

    Raises
    ------
    EvaluationError
        scikit-learn is not installed.
    """
    try:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC
    except ImportError as error:
        raise EvaluationError(
            "This needs scikit-learn: pip install 'qieemo-sb[bench]'"
        ) from error
    model = make_pipeline(StandardScaler(), SVC(C=SVM_C))
    return model.fit(train, targets).predict(test)

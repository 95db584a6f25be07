"""What lies in a model's folder, for all who write or read one.

A bundle (``bundle``) and an ONNX export (``onnx``) name
the emotions in the same file; reading it needs neither torch nor SpeechBrain.
"""

import ast
from pathlib import Path

from qieemo_sb.errors import ModelFolderError

HYPERPARAMS = "hyperparams.yaml"
WEIGHTS = "model.safetensors"
GRAPH = "model.onnx"
GRAPH_WEIGHTS = "model.onnx.data"
LABELS = "label_encoder.txt"
TOKENS = "tokens.json"
PIECES = "tokens.model"  # of sentencepiece, beside the former
CARD = "README.md"

GRAPH_FORMAT = "1"  # raised when what a graph takes or gives changes


def read_labels(path: str | Path, expected: int) -> list[str]:
    r"""Names of a model's outputs, from SpeechBrain's file of them.

    Arguments
    ---------
    path : str or Path
        What ``speechbrain.dataio.encoder.CategoricalEncoder.save`` wrote.
    expected : int
        C, the model's outputs.

    Returns
    -------
    list of str
        In the order of the outputs.

    Raises
    ------
    ModelFolderError
        The file is missing or damaged, or does not name each output once.

    Example
    -------
    >>> path = getfixture("tmp_path") / "label_encoder.txt"
    >>> _ = path.write_text("'sad' => 1\n'happy' => 0\n=====\n")
    >>> read_labels(path, expected=2)
    ['happy', 'sad']
    """
    if not Path(path).is_file():
        raise ModelFolderError(f"{path} is missing.")
    names = {}
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.startswith("="):  # what follows is SpeechBrain's own
                break
            name, index = line.rsplit(" => ", maxsplit=1)
            names[int(index)] = ast.literal_eval(name)
        titles = set(names.values())
    except (ValueError, SyntaxError, TypeError) as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error
    whole = sorted(names) == list(range(expected))
    if not whole or len(titles) != expected:
        raise ModelFolderError(
            f"{path} has {len(titles)} names, the model has "
            f"{expected} outputs: they do not belong together."
        )
    return [names[index] for index in range(expected)]

"""An exported model as one folder.

model.onnx           the graph: waveform in, answer out
model.onnx.data      its weights
label_encoder.txt    emotions in the order of log_probs
tokens.json          tokens in the order of the PPG, if it reads
README.md            the model card
"""

import shutil
from pathlib import Path

import onnx

from qieemo_sb.errors import ModelFolderError
from qieemo_sb.serving.classifier import NO_EMOTION
from qieemo_sb.serving.folder import (
    CARD,
    LABELS,
    TOKENS,
    load_folder,
    replacing_folder,
)
from qieemo_sb.serving.onnx import GRAPH, GRAPH_WEIGHTS
from qieemo_sb.serving.onnx.model import ExportError, build_onnx

NAMES = (LABELS, TOKENS)  # of the outputs, as they are in the bundle
FILES = {GRAPH, GRAPH_WEIGHTS, CARD, *NAMES}
CARD_OF_EXPORT = """\
# ONNX export, {weights} weights

`{graph}`, with its weights beside it, maps a waveform (`wav` [1, S], 16 kHz,
mono, any length from 25 ms) to `log_probs` [1, C], `embedding` [1, E] and, if
the model has one, `ppg` [1, T, V]. The emotions of `log_probs` are listed in
`{labels}`.

```python
from qieemo_sb import OnnxClassifier

classifier = OnnxClassifier.from_folder("this folder")
log_probs, score, index, emotion = classifier.classify_file("speech.wav")
```

It was made from the model whose card follows{unmeasured}.

"""
ROUNDED = """; its weights and the inputs of its
linear layers are rounded to 8 bits, so what is measured there is not quite
what this export would score"""


def export_onnx(
    bundle: str | Path, folder: str | Path, int8: bool = False
) -> Path:
    """Export a bundle; the folder appears when it is whole.

    Arguments
    ---------
    bundle : str or Path
        Folder of a trained model.
    folder : str or Path
        Replaced if it is an older export.
    int8 : bool
        Whether linear layers are computed in 8 bits.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ModelFolderError
        The bundle is not whole.
    ExportError
        A part of the model has no ONNX form, or ``folder`` is a file or holds
        something else than an export.
    """
    bundle, folder = Path(bundle), Path(folder)
    _check_place(folder)
    loaded = load_folder(bundle)
    if loaded.labels is None:
        raise ModelFolderError(NO_EMOTION)
    graph = build_onnx(loaded.model.eval(), int8)
    with replacing_folder(folder) as unfinished:
        # Weights in a file of their own are mapped into memory, which halves
        # the time to load, and may be more than a protobuf's 2 GB.
        onnx.save_model(
            graph,
            unfinished / GRAPH,
            save_as_external_data=True,
            location=GRAPH_WEIGHTS,
        )
        # onnx lets nobody else read what it writes beside the graph.
        shutil.copymode(unfinished / GRAPH, unfinished / GRAPH_WEIGHTS)
        for name in NAMES:
            if (bundle / name).is_file():
                shutil.copyfile(bundle / name, unfinished / name)
        (unfinished / CARD).write_text(
            _card(bundle / CARD, int8), encoding="utf-8"
        )
    return folder


def _check_place(folder):
    """Raise ExportError for a folder that an export may not replace."""
    if folder.is_file():
        raise ExportError(f"{folder} is a file; an export is a folder.")
    found = {path.name for path in folder.glob("*")}
    if found and (GRAPH not in found or found - FILES):
        raise ExportError(
            f"{folder} holds something else than an export and would be "
            "replaced: name another folder."
        )


def _card(path, int8):
    """The model's card behind what is to say of its export."""
    note = CARD_OF_EXPORT.format(
        graph=GRAPH,
        labels=LABELS,
        weights="int8" if int8 else "float32",
        unmeasured=ROUNDED if int8 else "",
    )
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    return note + card

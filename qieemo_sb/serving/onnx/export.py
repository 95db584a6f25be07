"""An exported model as one folder.

model.onnx           the graph: a window of at most 30 s in, results out
model.onnx.data      its weights
export.json          format, type of the weights, and checksums
label_encoder.txt    emotions in the order of log_probs
tokens.json          tokens in the order of the PPG, if it transcribes
README.md            the model card
"""

from __future__ import annotations

import ast
import logging
import re
import shutil
import tempfile
from pathlib import Path

import onnx
import onnxscript  # noqa: F401, torch.onnx needs it; an error names the extra
import torch
from onnxruntime.quantization import quantize_dynamic

from qieemo_sb.errors import ModelFolderError
from qieemo_sb.frames import MEL_HOP, WINDOW_SAMPLES
from qieemo_sb.model import Qieemo
from qieemo_sb.serving.classifier import NO_EMOTION
from qieemo_sb.serving.folder import (
    CARD,
    LABELS,
    TOKENS,
    load_folder,
    replacing_folder,
    write_facts,
)
from qieemo_sb.serving.onnx.classifier import (
    EXPORT,
    GRAPH,
    GRAPH_FORMAT,
    GRAPH_WEIGHTS,
    OnnxClassifier,
    load_graph,
)
from qieemo_sb.serving.onnx.window import ExportError, ModelWindow

OPSET = 20  # the first with an exact GELU
LONGEST = WINDOW_SAMPLES + MEL_HOP - 1  # samples of a window
FILES = {GRAPH, GRAPH_WEIGHTS, EXPORT, CARD, LABELS, TOKENS}
SCOPES = "pkg.torch.onnx.name_scopes"  # a node's modules, from the outermost
# In 8 bits, the first convolution would lose a point of agreement with torch
# for a fiftieth of the time; the classifier is too small to matter.
IN_FLOAT32 = ("encoder.conv1", "model.classifier.linear")
TOLERANCE = 1e-3  # of float32, which deep blocks blow up
CHECKED = (400, 24_000, 500_000)  # samples: one frame, some, two windows
NOTE = Path(__file__).with_name("card.md")  # before the model's card
ROUNDED = "; in 8 bits it does not score quite\nwhat is measured there"


def export_onnx(
    model: str | Path, folder: str | Path, int8: bool = False
) -> Path:
    """Export a model folder; the export appears when it is complete.

    Arguments
    ---------
    model : str or Path
        Folder of a trained model.
    folder : str or Path
        Replaced if it is an older export.
    int8 : bool
        Compute linear layers in 8 bits.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ModelFolderError
        The model folder is incomplete or damaged.
    ExportError
        torch.onnx cannot export a part of the model, or ``folder`` is a file
        or holds something else than an export.
    """
    model, folder = Path(model), Path(folder)
    _check_place(folder)
    loaded = load_folder(model)
    if not isinstance(loaded.model, Qieemo):
        raise ModelFolderError(NO_EMOTION)
    with replacing_folder(folder) as unfinished:
        write_graph(loaded.model.eval(), unfinished, int8)
        for name in (LABELS, TOKENS)[: 2 if loaded.tokens else 1]:
            shutil.copyfile(model / name, unfinished / name)
        weights = "int8" if int8 else "float32"
        about = {"format": GRAPH_FORMAT, "weights": weights}
        write_facts(unfinished / EXPORT, about)
        card = NOTE.read_text(encoding="utf-8").format(
            weights=weights, rounded=ROUNDED if int8 else ""
        )
        if (model / CARD).is_file():
            text = (model / CARD).read_text(encoding="utf-8")
            # The hub's metadata, if there is some, stays at the top.
            *metadata, text = re.split(r"(?s)(\A---\n.*?\n---\n+)", text)
            card = "".join(metadata) + card + text
        (unfinished / CARD).write_text(card, encoding="utf-8")
    return folder


def write_graph(model: Qieemo, folder: Path, int8: bool = False) -> None:
    """Write ``model.onnx`` and ``model.onnx.data``.

    Arguments
    ---------
    model : Qieemo
        In eval mode.
    folder : Path
        Where to write.
    int8 : bool
        As of ``export_onnx``.

    Raises
    ------
    ExportError
        torch.onnx cannot export a part of the model.
    """
    window = ModelWindow(model, int8).eval()
    logged = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice of torch and onnxruntime
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            float32 = (Path(scratch) if int8 else folder) / GRAPH
            _convert(window).save(float32, external_data=True)
            _check_answers(window, float32)
            if int8:
                _quantise(window, float32, folder / GRAPH)
    finally:
        logging.disable(logged)
    _strip(folder / GRAPH)
    for name in (GRAPH, GRAPH_WEIGHTS):  # onnx lets nobody else read some
        (folder / name).chmod(0o644)


def _convert(window):
    """A window's ONNX program for any number of samples."""
    names = list(window.empty_statistics())
    outputs = ["log_probs", "embedding", *(f"next_{name}" for name in names)]
    outputs += ["ppg"] if window.model.ppg_head is not None else []
    samples = torch.export.Dim("S", min=3 * MEL_HOP, max=LONGEST)
    try:
        exported = torch.export.export(
            window,
            (torch.zeros(1, 16_000), *window.empty_statistics().values()),
            dynamic_shapes=({1: samples}, ({},) * len(names)),
            strict=False,
            # Otherwise the exporter would have to prove what it can test.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        return torch.onnx.export(
            exported,
            input_names=["wav", *names],
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    except Exception as error:  # of a dozen classes without a common base
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ExportError(
            f"One of {_names_of_parts(window)} cannot be exported by "
            f"torch.onnx: {reason}"
        ) from error


def _names_of_parts(window):
    return ", ".join(type(part).__name__ for part in window.model.children())


def _check_answers(window, path):
    """Raise ExportError if the graph's results are not the model's.

    A part whose computation depends on the lengths in a way that the exporter
    does not see has been fixed at one length.
    """
    graph = OnnxClassifier(load_graph(path), [])
    for size in CHECKED:
        wav = torch.sin(torch.arange(size) ** 2 / 3e4)
        with torch.no_grad():
            expected = window.model(wav[None], frame_wise=False).embedding
        found = torch.from_numpy(graph.encode_batch(wav.numpy()))
        if not torch.allclose(found, expected, TOLERANCE, TOLERANCE):
            raise ExportError(
                f"The graph of {_names_of_parts(window)} gives other results "
                f"than the model for {size} samples: one of them cannot be "
                "exported."
            )


def _quantise(window, source, target):
    """Round the weights of linear layers to int8, each column by itself."""
    layers = {
        name
        for name, module in window.named_modules()
        if isinstance(module, torch.nn.Linear) and name not in IN_FLOAT32
    }
    nodes = []
    for node in onnx.load(source, load_external_data=False).graph.node:
        facts = {fact.key: fact.value for fact in node.metadata_props}
        if layers.intersection(ast.literal_eval(facts.get(SCOPES, "[]"))):
            # The second is the name of a Gemm that onnxruntime has split.
            nodes += [node.name, f"{node.name}_MatMul"]
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        nodes_to_quantize=nodes,
        use_external_data_format=True,
    )


def _strip(path):
    """Leave out which line of which file each node comes from."""
    graph = onnx.load(path, load_external_data=False)
    for part in (*graph.graph.node, *graph.graph.value_info):
        del part.metadata_props[:]
    onnx.save(graph, path)


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

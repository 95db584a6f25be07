"""A trained model → one ONNX graph: waveform of any length in, answer out.

    wav [1, S] ─ cut into windows of at most 30 s ─ loop over them:
        encoder → PPG and emotional features → MMF → CMA
    ─ frames of all windows ─ pooling → classifier
    ─► log_probs [1, C], embedding [1, E], ppg [1, T, V]

The loop cuts where ``qieemo_sb.frames`` cuts, so that an answer is that of
the torch model at any length, and memory is that of one window.
"""

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper

from qieemo_sb.encoders.whisper import WhisperEncoder
from qieemo_sb.frames import FRAME_HOP, MEL_HOP, WINDOW_FRAMES
from qieemo_sb.model import Qieemo
from qieemo_sb.serving.onnx import GRAPH_FORMAT, lobes
from qieemo_sb.serving.onnx.graph import MICROSOFT, Graph, integers
from qieemo_sb.serving.onnx.whisper import whisper

OPSET = 20  # the first with an exact GELU
IR_VERSION = 9  # that of this opset
ENCODERS = {WhisperEncoder: whisper}


class ExportError(ValueError):
    """A model cannot be exported."""


def build_onnx(model: Qieemo, int8: bool = False) -> onnx.ModelProto:
    """Write a model as ONNX.

    Arguments
    ---------
    model : Qieemo
        In eval mode.
    int8 : bool
        Whether linear layers are computed in int8, by operators that only
        onnxruntime has. Pooling and classifier stay in float32.

    Returns
    -------
    onnx.ModelProto
        wav [1, S] → log_probs [1, C], embedding [1, E] and, if the model has
        a PPG, ppg [1, T, V]; all float32.

    Raises
    ------
    ExportError
        A part of the model has no ONNX form yet, or the model only reads.
    """
    if model.pooling is None:
        raise ExportError(
            "A model that only reads cannot be exported yet: it has no pooling "
            "and no classifier."
        )
    graph = Graph("clip")
    streams = _loop(graph, model, int8)
    embedding = _write(lobes.POOLINGS, graph, model.pooling, streams["frames"])
    if model.block_statistics is not None:
        own = lobes.join_moments(graph, streams)
        embedding = graph("Concat", embedding, own, axis=-1)
    answer = _write(lobes.CLASSIFIERS, graph, model.classifier, embedding)
    outputs = [
        _output(graph, "log_probs", answer, [1, model.classifier.n_classes]),
        _output(graph, "embedding", embedding, [1, model.classifier.width]),
    ]
    if "ppg" in streams:
        ppg = graph("Unsqueeze", streams["ppg"], integers(0))
        shape = [1, "T", model.ppg_head.n_tokens]
        outputs.append(_output(graph, "ppg", ppg, shape))
    wav = helper.make_tensor_value_info("wav", TensorProto.FLOAT, [1, "S"])
    made = helper.make_model(
        helper.make_graph(
            graph.nodes, "qieemo", [wav], outputs, graph.constants
        ),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid(MICROSOFT, 1),
        ],
        ir_version=IR_VERSION,
        producer_name="qieemo_sb",
    )
    weights = "int8" if int8 else "float32"
    helper.set_model_props(made, {"format": GRAPH_FORMAT, "weights": weights})
    return made


def _loop(graph, model, int8):
    """Loop over the windows of ``wav`` → {"frames": [T, H], …}."""
    samples = graph("Slice", graph("Shape", "wav"), integers(1), integers(2))
    mel_frames = graph("Div", samples, integers(MEL_HOP))
    frames = graph("Add", mel_frames, integers(1))
    frames = graph("Div", frames, integers(2))
    count = graph("Add", frames, integers(WINDOW_FRAMES - 1))
    count = graph("Div", count, integers(WINDOW_FRAMES))
    window = Graph("window", int8)
    wav = _cut(window, samples, frames, count)
    results = _fuse(window, model, wav)
    lists = [graph("SequenceEmpty") for _ in results]
    loop = helper.make_node(
        "Loop",
        [graph("Squeeze", count), "", *lists],
        [f"{name}.windows" for name in results],
        body=_body(window, results),
    )
    graph.nodes.append(loop)
    return {
        name: graph("ConcatFromSequence", f"{name}.windows", axis=0)
        for name in results
    }


def _cut(graph, samples, frames, count):
    """Samples [S] of window ``index``; see ``frames.sample_windows``."""
    index = graph("Unsqueeze", "index", integers(0))
    after = graph("Add", index, integers(1))
    hop = integers(FRAME_HOP)
    start, end = (
        graph("Mul", graph("Div", graph("Mul", i, frames), count), hop)
        for i in (index, after)
    )
    # The last window has what lies past the last whole frame, too.
    end = graph("Where", graph("Equal", after, count), samples, end)
    wav = graph("Slice", "wav", start, end, integers(1))
    return graph("Squeeze", wav, integers(0))


def _body(graph, results):
    """Body of the loop: append a window's results to lists of them."""
    graph.rename("go_on", "goes_on")
    inputs = [
        helper.make_tensor_value_info("index", TensorProto.INT64, []),
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, [])]
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    sequence = helper.make_sequence_type_proto(tensor)
    for name, value in results.items():
        before, longer = f"{name}.before", f"{name}.after"
        graph.nodes.append(
            helper.make_node("SequenceInsert", [before, value], [longer])
        )
        inputs.append(helper.make_value_info(before, sequence))
        outputs.append(helper.make_value_info(longer, sequence))
    return helper.make_graph(
        graph.nodes, "window", inputs, outputs, graph.constants
    )


def _fuse(graph, model, wav):
    """One window [S] → {"frames": [T, H], …}; see ``Qieemo``."""
    last = max(model.blocks)
    hidden = _write(ENCODERS, graph, model.encoder, wav, last)
    streams, ppg, emotional = {}, None, None
    if model.ppg_head is not None:
        ppg = _write(lobes.PPG_HEADS, graph, model.ppg_head, hidden[last])
        streams["ppg"] = ppg
    if model.mixer is not None:
        emotional = _write(lobes.MIXERS, graph, model.mixer, hidden)
    frames = _write(lobes.FUSIONS, graph, model.mmf, ppg, emotional)
    if model.cma is not None:
        frames = _write(
            lobes.ATTENTIONS, graph, model.cma, frames, ppg, emotional
        )
    if model.block_statistics is not None:
        streams |= lobes.block_moments(graph, model.block_statistics, hidden)
    return {"frames": frames, **streams}


def _write(
    forms: Mapping[type, Callable], graph: Graph, part: torch.nn.Module, *values
) -> Any:
    """Add a part to the graph by the function that is kept for its class."""
    if type(part) not in forms:
        raise ExportError(
            f"{type(part).__name__} has no ONNX form yet, only "
            f"{', '.join(kind.__name__ for kind in forms)}: write one in "
            "qieemo_sb/export."
        )
    return forms[type(part)](graph, part, *values)


def _output(graph, name, value, shape):
    return helper.make_tensor_value_info(
        graph.rename(value, name), TensorProto.FLOAT, shape
    )

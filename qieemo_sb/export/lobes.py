"""The lobes as ONNX: each function is the forward pass of one of them.

Authors
 * The Qieemo-SB authors 2026
"""

import numpy as np

from qieemo_sb.export.graph import (
    Graph,
    array,
    attention,
    integers,
    linear,
    neighbours,
    norm,
    product,
    real,
)
from qieemo_sb.lobes.average import AveragePooling
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.cma import CMA, CrossAttention
from qieemo_sb.lobes.cma_first import CMAFirst
from qieemo_sb.lobes.concatenation import Concatenation
from qieemo_sb.lobes.mixer import EPSILON, BlockMixer
from qieemo_sb.lobes.mmf import MMF
from qieemo_sb.lobes.pooling import VARIANCE_FLOOR, AttentiveStatisticsPooling
from qieemo_sb.lobes.ppg import Neighbours, PPGHead
from qieemo_sb.lobes.projection import Projection
from qieemo_sb.lobes.weighted_sum import WeightedSum


def ppg(graph: Graph, lobe: PPGHead, last_block: str) -> str:
    """[T, D] → PPG [T, V], log-probabilities."""
    x = linear(graph, norm(graph, last_block, lobe.norm), lobe.inward)
    for layer in lobe.layers:
        x = graph("Add", x, _around(graph, layer, x))
    x = linear(graph, graph("Gelu", x), lobe.outward)
    return graph("LogSoftmax", x, axis=-1)


def _around(graph: Graph, layer: Neighbours, x: str) -> str:
    """Frames [T, W], with zeros around them, → [T, W]."""
    size = graph("Shape", x, end=1)
    x = graph("Gelu", norm(graph, x, layer.norm))
    half = layer.context // 2
    x = graph("Pad", x, integers(half, 0, half, 0))
    joined = graph("Concat", *neighbours(graph, x, size, layer.context), axis=1)
    # The layer holds the frames of a channel together, here it is the
    # channels of a frame.
    weight = array(layer.linear.weight)  # [W, W * context]
    weight = weight.reshape(len(weight), -1, layer.context).transpose(2, 1, 0)
    weight = weight.reshape(-1, weight.shape[-1])
    return product(graph, joined, weight, array(layer.linear.bias))


def mixer(graph: Graph, lobe: BlockMixer, hidden: dict[int, str]) -> str:
    """Blocks [T, D] → their mix [T, D]."""
    weights = array(lobe.weights())[:, None]
    scales = weights / np.sqrt(array(lobe.variance) + EPSILON)  # [K, D]
    mixed = graph.constant(-(scales * array(lobe.mean)).sum(axis=0))
    for block, scale in zip(lobe.blocks, scales, strict=True):
        mixed = graph("Add", mixed, graph("Mul", hidden[block], scale))
    return mixed


def weighted_sum(
    graph: Graph, lobe: WeightedSum, hidden: dict[int, str]
) -> str:
    """Blocks [T, D] → their weighted sum [T, D]."""
    mixed = None
    for block, weight in zip(lobe.blocks, array(lobe.weights()), strict=True):
        x = graph("Mul", hidden[block], real(weight))
        mixed = x if mixed is None else graph("Add", mixed, x)
    return mixed


def mmf(graph: Graph, lobe: MMF, ppg: str, emotional: str) -> str:
    """PPG [T, V] and emotional features [T, D] → [T, H]."""
    said = linear(graph, graph("Exp", ppg), lobe.from_ppg)
    said = norm(graph, said, lobe.ppg_norm)
    felt = linear(graph, emotional, lobe.from_emotional)
    felt = norm(graph, felt, lobe.emotional_norm)
    both = graph("Concat", said, felt, axis=-1)
    gate = graph("Sigmoid", linear(graph, both, lobe.gate))
    difference = graph("Sub", said, felt)
    mixed = graph("Add", felt, graph("Mul", gate, difference))
    mixed = linear(graph, graph("Gelu", mixed), lobe.out)
    return norm(graph, graph("Add", felt, mixed), lobe.norm)


def concatenation(
    graph: Graph, lobe: Concatenation, ppg: str | None, emotional: str | None
) -> str:
    """PPG [T, V], emotional features [T, D], or both → [T, H]."""
    streams = [] if ppg is None else [graph("Exp", ppg)]
    streams += [] if emotional is None else [emotional]
    joined = graph("Concat", *streams, axis=-1)
    return norm(graph, linear(graph, joined, lobe.linear), lobe.norm)


def projection(
    graph: Graph, lobe: Projection, ppg: str | None, emotional: str
) -> str:
    """Emotional features [T, D] → [T, H]."""
    return linear(graph, emotional, lobe.linear)


def cma(graph: Graph, lobe: CMA, fused: str, ppg: str, emotional: str) -> str:
    """Fused frames [T, H], PPG and emotional features → [T, H]."""
    queries = norm(graph, fused, lobe.attention_norm)
    emotional = norm(graph, emotional, lobe.emotional_norm)
    said = _cross_attention(graph, lobe.to_ppg, queries, graph("Exp", ppg))
    felt = _cross_attention(graph, lobe.to_emotional, queries, emotional)
    y = graph("Add", fused, graph("Add", said, felt))
    first, inner, _, _, outer = lobe.ffn
    x = linear(graph, norm(graph, y, first), inner)
    x = linear(graph, graph("Gelu", x), outer)
    return norm(graph, graph("Add", y, x), lobe.norm)


def cma_first(graph: Graph, lobe: CMAFirst, ppg: str, emotional: str) -> str:
    """PPG [T, V] and emotional features [T, D] → [T, H]."""
    joined = concatenation(graph, lobe.join, ppg, emotional)
    attended = cma(graph, lobe.cma, joined, ppg, emotional)
    return mmf(graph, lobe.mmf, ppg, attended)


def _cross_attention(
    graph: Graph, lobe: CrossAttention, queries: str, stream: str
) -> str:
    width = lobe.queries.out_features
    attended = attention(
        graph,
        linear(graph, queries, lobe.queries, (width // lobe.heads) ** -0.5),
        linear(graph, stream, lobe.keys),
        linear(graph, stream, lobe.values),
        lobe.heads,
        width,
    )
    return linear(graph, attended, lobe.out)


def pooling(graph: Graph, lobe: AttentiveStatisticsPooling, frames: str) -> str:
    """Frames [T, H] → embedding [1, 2 H]."""
    inner, _, outer = lobe.attention
    scores = linear(graph, frames, inner)
    scores = linear(graph, graph("Tanh", scores), outer)  # [T, 1]
    weights = graph("Softmax", scores, axis=0)

    def average(x):
        return graph("ReduceSum", graph("Mul", weights, x), integers(0))

    mean = average(frames)  # [1, H]
    centred = graph("Sub", frames, mean)
    variance = average(graph("Mul", centred, centred))
    deviation = graph("Sqrt", graph("Add", variance, real(VARIANCE_FLOOR)))
    return graph("Concat", mean, deviation, axis=-1)


def average_pooling(graph: Graph, lobe: AveragePooling, frames: str) -> str:
    """Frames [T, H] → embedding [1, H]."""
    return graph("ReduceMean", frames, integers(0))


def classifier(graph: Graph, lobe: Classifier, embedding: str) -> str:
    """Embedding [1, E] → log-probabilities [1, C]."""
    logits = linear(graph, norm(graph, embedding, lobe.norm), lobe.linear)
    return graph("LogSoftmax", logits, axis=-1)


# A lobe's class → its function. Of the same kind, all take the same values.
PPG_HEADS = {PPGHead: ppg}
MIXERS = {BlockMixer: mixer, WeightedSum: weighted_sum}
FUSIONS = {
    MMF: mmf,
    CMAFirst: cma_first,
    Concatenation: concatenation,
    Projection: projection,
}
ATTENTIONS = {CMA: cma}
POOLINGS = {
    AttentiveStatisticsPooling: pooling,
    AveragePooling: average_pooling,
}
CLASSIFIERS = {Classifier: classifier}

"""The lobes as ONNX: each function is the forward pass of one of them."""

import numpy as np
from onnx import TensorProto

from qieemo_sb.lobes.blocks import BlockMixer, WeightedSum
from qieemo_sb.lobes.classifier import LIMIT, Classifier
from qieemo_sb.lobes.fusion import (
    CMA,
    MMF,
    CMAFirst,
    Concatenation,
    CrossAttention,
    Projection,
)
from qieemo_sb.lobes.normalization import EPSILON, RunningMoments
from qieemo_sb.lobes.pooling import (
    VARIANCE_FLOOR,
    AttentiveStatisticsPooling,
    AveragePooling,
    BlockStatistics,
    StatisticsPooling,
)
from qieemo_sb.lobes.ppg import Neighbours, PPGHead
from qieemo_sb.serving.onnx.graph import (
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
    scales = weights * _scales(lobe.standard)  # [K, D]
    mixed = graph.constant(-(scales * array(lobe.standard.mean)).sum(axis=0))
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


def attentive_pooling(
    graph: Graph, lobe: AttentiveStatisticsPooling, frames: str
) -> str:
    """Frames [T, H] → embedding [1, 2 H]."""
    inner, _, outer = lobe.attention
    scores = linear(graph, frames, inner)
    scores = linear(graph, graph("Tanh", scores), outer)  # [T, 1]
    weights = graph("Softmax", scores, axis=0)
    return _vector(graph, *_moments(graph, frames, weights))


def pooling(graph: Graph, lobe: StatisticsPooling, frames: str) -> str:
    """Frames [T, H] → embedding [1, 2 H]."""
    return _vector(graph, *_moments(graph, frames))


def block_moments(
    graph: Graph, lobe: BlockStatistics, hidden: dict[int, str]
) -> dict[str, str]:
    """Blocks [T, D] of a window → what ``join_moments`` needs of it."""
    blocks = [hidden[block] for block in lobe.blocks]
    frames = graph("Concat", *blocks, axis=-1)
    mean, variance = _moments(graph, frames)
    size = graph("Cast", graph("Shape", frames, end=1), to=TensorProto.FLOAT)
    return {
        "block_means": mean,  # [1, K D]
        "block_variances": variance,
        "block_sizes": graph("Unsqueeze", size, integers(0)),  # [1, 1]
    }


def join_moments(graph: Graph, moments: dict[str, str]) -> str:
    """Moments of W windows [W, *] → embedding [1, 2 K D] of all frames."""
    means, sizes = moments["block_means"], moments["block_sizes"]
    weights = graph("Div", sizes, graph("ReduceSum", sizes, integers(0)))
    mean, between = _moments(graph, means, weights)
    within = graph("Mul", weights, moments["block_variances"])
    within = graph("ReduceSum", within, integers(0))
    return _vector(graph, mean, graph("Add", within, between))


def _moments(graph, frames, weights=None):
    """Frames [T, H], weights [T, 1] → mean and variance [1, H]."""

    def average(x):
        if weights is None:
            return graph("ReduceMean", x, integers(0))
        return graph("ReduceSum", graph("Mul", weights, x), integers(0))

    mean = average(frames)
    centred = graph("Sub", frames, mean)
    return mean, average(graph("Mul", centred, centred))


def _vector(graph, mean, variance):
    deviation = graph("Sqrt", graph("Add", variance, real(VARIANCE_FLOOR)))
    return graph("Concat", mean, deviation, axis=-1)


def average_pooling(graph: Graph, lobe: AveragePooling, frames: str) -> str:
    """Frames [T, H] → embedding [1, H]."""
    return graph("ReduceMean", frames, integers(0))


def classifier(graph: Graph, lobe: Classifier, embedding: str) -> str:
    """Embedding [1, E] → log-probabilities [1, C]."""
    centred = graph("Sub", embedding, array(lobe.standard.mean))
    x = graph("Mul", centred, _scales(lobe.standard))
    x = graph("Clip", x, real(-LIMIT), real(LIMIT))
    logits = linear(graph, x, lobe.linear)
    return graph("LogSoftmax", logits, axis=-1)


def _scales(standard: RunningMoments) -> np.ndarray:
    return 1 / np.sqrt(array(standard.variance) + EPSILON)


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
    AttentiveStatisticsPooling: attentive_pooling,
    StatisticsPooling: pooling,
    AveragePooling: average_pooling,
}
CLASSIFIERS = {Classifier: classifier}

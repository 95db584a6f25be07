"""ONNX graphs in the making: nodes, constants, and the layers of all parts.

Inside a graph one utterance flows, without a batch axis: frames are [T, D].
"""

import numpy as np
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"  # operators that only onnxruntime has
LARGEST = 127  # of a weight in int8
SMALLEST = 1e-6  # maximum of a frame: keeps silence from dividing by zero


class Graph:
    """Nodes and constants of a graph; calling it adds a node.

    Arguments
    ---------
    name : str
        Prefix of every value: names must differ between a graph and the
        graphs inside of it.
    int8 : bool
        Whether weights of linear layers are kept, and multiplied, in int8.

    Example
    -------
    >>> graph = Graph("sum")
    >>> graph("Add", "x", np.ones(3))
    'sum.2'
    >>> [node.op_type for node in graph.nodes], len(graph.constants)
    (['Add'], 1)
    """

    def __init__(self, name: str, int8: bool = False):
        self.name = name
        self.int8 = int8
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._count = 0

    def __call__(
        self,
        operator: str,
        *inputs: str | np.ndarray,
        outputs: int = 1,
        domain: str = "",
        **attributes,
    ) -> str | list[str]:
        """Add a node.

        Arguments
        ---------
        operator : str
            Its type.
        *inputs : str or np.ndarray
            Values, or constants.
        outputs : int
            How many it has.
        domain : str
            Where the operator is defined; "": by ONNX.
        **attributes
            Of the node.

        Returns
        -------
        str or list of str
            Its output or outputs.
        """
        names = [
            value if isinstance(value, str) else self.constant(value)
            for value in inputs
        ]
        results = [self._name() for _ in range(outputs)]
        node = helper.make_node(
            operator, names, results, results[0], domain=domain, **attributes
        )
        self.nodes.append(node)
        return results[0] if outputs == 1 else results

    def constant(self, value: np.ndarray) -> str:
        """Add a constant; float64 becomes float32."""
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        name = self._name()
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(value), name)
        )
        return name

    def rename(self, value: str, name: str) -> str:
        """Give a value a name that the outside knows."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def _name(self):
        self._count += 1
        return f"{self.name}.{self._count}"


def integers(*values: int) -> np.ndarray:
    """A constant of int64, as shapes and indices are."""
    return np.array(values, dtype=np.int64)


def real(value: float) -> np.ndarray:
    """A constant number."""
    return np.array(value, dtype=np.float32)


def array(tensor: torch.Tensor) -> np.ndarray:
    """A parameter as float64: products of parameters round only once."""
    return tensor.detach().cpu().double().numpy()


def rows(
    graph: Graph, x: str, start: str | np.ndarray, end: str | np.ndarray
) -> str:
    """``x[start:end]``."""
    return graph("Slice", x, start, end, integers(0))


def columns(graph: Graph, x: str, start: int, end: int) -> str:
    """``x[:, start:end]``."""
    return graph("Slice", x, integers(start), integers(end), integers(1))


def neighbours(graph: Graph, x: str, size: str, count: int) -> list[str]:
    """Each row and those after it: [size + count - 1, D] → count × [size, D].

    Arguments
    ---------
    graph : Graph
        Gets the nodes.
    x : str
        [size + count - 1, D] or more rows.
    size : str
        [1] int64.
    count : int
        How many, the row itself included.

    Returns
    -------
    list of str
        [size, D] each: rows themselves, those next to them, and so on.
    """
    steps = (integers(k) for k in range(count))
    return [rows(graph, x, k, graph("Add", size, k)) for k in steps]


def linear(
    graph: Graph,
    x: str,
    layer: torch.nn.Linear,
    scale: float = 1.0,
    uneven: bool = False,
) -> str:
    """A linear layer, its result times ``scale``; see ``product``."""
    bias = None if layer.bias is None else scale * array(layer.bias)
    return product(graph, x, scale * array(layer.weight).T, bias, uneven)


def product(
    graph: Graph,
    x: str,
    weight: np.ndarray,
    bias: np.ndarray | None,
    uneven: bool = False,
) -> str:
    """``x @ weight + bias``, in int8 if the graph is.

    In int8, each column of the weight has a scale of its own, found here, and
    ``x`` has one that is found when the graph runs.

    Arguments
    ---------
    graph : Graph
        Gets the nodes.
    x : str
        [T, K].
    weight : np.ndarray
        [K, N].
    bias : np.ndarray or None
        [N].
    uneven : bool
        Whether each frame of ``x`` gets a scale of its own. Behind a GELU a
        few of Whisper's frames are twenty times as large as the others, which
        a common scale would leave a handful of steps.

    Returns
    -------
    str
        [T, N].
    """
    if not graph.int8:
        y = graph("MatMul", x, weight)
        return y if bias is None else graph("Add", y, bias)
    if uneven:
        largest = graph("ReduceMax", graph("Abs", x), integers(-1), keepdims=1)
        largest = graph("Max", largest, real(SMALLEST))
        scaled = graph("Div", x, largest)
        y = graph("Mul", _int8_product(graph, scaled, weight, None), largest)
        return y if bias is None else graph("Add", y, bias)
    return _int8_product(graph, x, weight, bias)


def _int8_product(graph, x, weight, bias):
    no_zero_point = ""
    return graph(
        "DynamicQuantizeMatMul",
        x,
        *quantise(weight),
        no_zero_point,
        *([] if bias is None else [bias]),
        domain=MICROSOFT,
    )


def quantise(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight to int8, symmetrically, each column by its largest.

    Arguments
    ---------
    weight : np.ndarray
        [K, N].

    Returns
    -------
    np.ndarray
        [K, N] int8, from -127 to 127.
    np.ndarray
        [N] float32; their product is the weight, rounded.

    Example
    -------
    >>> steps, scales = quantise(np.array([[0.5, -4.0], [1.0, 2.0]]))
    >>> steps
    array([[  64, -127],
           [ 127,   64]], dtype=int8)
    """
    scales = np.abs(weight).max(axis=0) / LARGEST
    scales[scales == 0] = 1.0
    return np.rint(weight / scales).astype(np.int8), scales.astype(np.float32)


def norm(graph: Graph, x: str, layer: torch.nn.LayerNorm) -> str:
    """A layer norm over the channels of each frame."""
    return graph(
        "LayerNormalization",
        x,
        array(layer.weight),
        array(layer.bias),
        axis=-1,
        epsilon=layer.eps,
    )


def attention(
    graph: Graph, queries: str, keys: str, values: str, heads: int, width: int
) -> str:
    """Multi-head attention of scaled queries: three times [T, D] → [T, D]."""
    shape = integers(-1, heads, width // heads)
    queries, keys, values = (
        graph("Reshape", x, shape) for x in (queries, keys, values)
    )  # [T, heads, D / heads]
    queries = graph("Transpose", queries, perm=[1, 0, 2])
    keys = graph("Transpose", keys, perm=[1, 2, 0])
    values = graph("Transpose", values, perm=[1, 0, 2])
    scores = graph("MatMul", queries, keys)  # [heads, T, T]
    attended = graph("MatMul", graph("Softmax", scores, axis=-1), values)
    attended = graph("Transpose", attended, perm=[1, 0, 2])
    return graph("Reshape", attended, integers(-1, width))

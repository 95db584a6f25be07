"""Layers in float32 and in int8, against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from qieemo_sb.serving.onnx.graph import Graph, linear, product, quantise

WEIGHT = np.array([[1.0, -2.0], [3.0, 4.0]])
X = np.array([[1.0, 1.0], [0.0, 2.0]], dtype=np.float32)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("uneven", [False, True])
def test_product_and_bias(compute, int8, uneven):
    graph = Graph("g", int8)
    y = product(graph, "x", WEIGHT, np.array([10.0, 20.0]), uneven)
    expected = [[14.0, 22.0], [16.0, 28.0]]
    assert np.allclose(compute(graph, y, X), expected, atol=0.1)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layer_times_a_scale(compute, bias):
    layer = torch.nn.Linear(2, 3, bias=bias)
    graph = Graph("g")
    y = compute(graph, linear(graph, "x", layer, scale=0.5), X)
    expected = 0.5 * layer(torch.from_numpy(X)).detach().numpy()
    assert np.allclose(y, expected, atol=1e-6)


def test_largest_weight_of_each_column_is_127():
    steps, scales = quantise(np.array([[1.27, 0.0], [-0.01, 254.0]]))
    assert steps.tolist() == [[127, 0], [-1, 127]]
    assert np.allclose(scales, [0.01, 2.0])


def test_column_of_zeros():
    steps, scales = quantise(np.zeros((2, 1)))
    assert steps.tolist() == [[0], [0]]
    assert np.isfinite(scales).all()


# One scale for both frames has steps of 1000 / 255: the quiet one is lost.
LOUD_AND_QUIET = np.array([[1000.0, 0.0], [0.5, 1.0]], dtype=np.float32)


@pytest.mark.parametrize("uneven, quiet", [(False, 0.0), (True, 1.0)])
def test_quiet_frame_beside_a_loud_one(compute, uneven, quiet):
    graph = Graph("g", int8=True)
    y = compute(
        graph, product(graph, "x", np.eye(2), None, uneven), LOUD_AND_QUIET
    )
    assert np.allclose(y[0], [1000.0, 0.0], rtol=0.01)
    assert np.allclose(y[1], [quiet * 0.5, quiet], rtol=0.01)


def test_silent_frame(compute):
    graph = Graph("g", int8=True)
    y = product(graph, "x", WEIGHT, None, uneven=True)
    assert not compute(graph, y, np.zeros((1, 2), np.float32)).any()

"""Models whose parts all have a say, and graphs in use."""

import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from qieemo_sb.serving.onnx.graph import MICROSOFT
from qieemo_sb.serving.onnx.model import IR_VERSION, OPSET


@pytest.fixture(scope="session")
def stir():
    """Give a model weights that are far from their fresh values."""

    def change(model):
        torch.manual_seed(1)
        for name, value in model.state_dict().items():
            if name.endswith(("bias", "mean")):
                value.normal_(std=0.3)
            elif name.endswith("variance"):
                value.uniform_(0.5, 2.0)
            elif "norm" not in name and "positions" not in name:
                value.mul_(4.0)
        return model

    return change


@pytest.fixture(scope="session")
def compute():
    """Run a graph from "x" to a value of it."""

    def run(graph, result, x):
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        inputs = [
            helper.make_tensor_value_info(
                "x", TensorProto.FLOAT, [None] * x.ndim
            )
        ]
        graph.rename(result, "y")
        made = helper.make_model(
            helper.make_graph(
                graph.nodes, "test", inputs, outputs, graph.constants
            ),
            opset_imports=[
                helper.make_opsetid("", OPSET),
                helper.make_opsetid(MICROSOFT, 1),
            ],
            ir_version=IR_VERSION,
        )
        session = onnxruntime.InferenceSession(made.SerializeToString())
        return session.run(["y"], {"x": x})[0]

    return run

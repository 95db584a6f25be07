"""Trained models without torch."""

GRAPH = "model.onnx"
GRAPH_WEIGHTS = "model.onnx.data"
GRAPH_FORMAT = "1"  # raised when the inputs or outputs of a graph change

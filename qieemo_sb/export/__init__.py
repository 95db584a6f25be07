"""A trained model as an ONNX graph, which runs without torch."""

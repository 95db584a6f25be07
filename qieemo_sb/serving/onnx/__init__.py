"""Trained models without torch.

A window of at most 30 s, with the statistics of those before it, is a module
that torch.onnx exports (``window``, ``export``); ``classifier`` runs the graph
window by window.
"""

GRAPH = "model.onnx"
GRAPH_WEIGHTS = "model.onnx.data"
EXPORT = "export.json"  # format, weights' type and checksums
GRAPH_FORMAT = 2  # raised when the inputs or outputs of a graph change
EMPTY = -1e30  # logarithm of the weight of no frames

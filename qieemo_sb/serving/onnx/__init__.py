"""Trained models without torch.

A window of at most 30 s, with the statistics of those before it, is a module
that torch.onnx exports (``window``, ``export``); ``classifier`` runs the graph
window by window.
"""

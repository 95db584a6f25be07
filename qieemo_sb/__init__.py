"""Qieemo: emotion from speech alone, on SpeechBrain.

``EncoderClassifier`` loads a trained model, ``OnnxClassifier`` its export,
which runs without torch; ``Qieemo`` is the model. They are imported when first
used: ``import qieemo_sb`` itself costs nothing.
"""

import importlib

__version__ = "0.1.0"  # read by setup.py, too

_WHERE = {
    "EncoderClassifier": "qieemo_sb.serving.speechbrain",
    "OnnxClassifier": "qieemo_sb.serving.onnx.classifier",
    "Qieemo": "qieemo_sb.model",
}

__all__ = ["EncoderClassifier", "OnnxClassifier", "Qieemo", "__version__"]


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'qieemo_sb' has no attribute {name!r}")

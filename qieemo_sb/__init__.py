"""Qieemo: emotion from speech alone, on SpeechBrain.

``load_model`` loads a trained model with torch alone, ``EncoderClassifier``
is SpeechBrain's class for the same folder, ``OnnxClassifier`` runs an export
without torch. They are imported when first used.
"""

import os
from importlib import import_module

__version__ = "0.1.0"  # read by setup.py, too

# Or onnxruntime reports its use to its makers. It asks once, when imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251

_MODULES = {
    "load_model": "qieemo_sb.serving.classifier",
    "EncoderClassifier": "qieemo_sb.serving.speechbrain",
    "OnnxClassifier": "qieemo_sb.serving.onnx.classifier",
    "Qieemo": "qieemo_sb.model",
    "PPGModel": "qieemo_sb.model",
}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str):
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'qieemo_sb' has no attribute {name!r}")

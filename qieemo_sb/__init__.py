"""Qieemo: emotion from speech alone, on SpeechBrain.

``EncoderClassifier`` loads a trained model, ``Qieemo`` is the model. Both are
imported when first used: ``import qieemo_sb`` itself costs nothing.
"""

import importlib

from qieemo_sb.version import __version__

_WHERE = {
    "EncoderClassifier": "qieemo_sb.inference",
    "Qieemo": "qieemo_sb.model",
}

__all__ = ["EncoderClassifier", "Qieemo", "__version__"]


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'qieemo_sb' has no attribute {name!r}")

"""Errors that this library raises on purpose, under one base."""

import os
from pathlib import Path


def shown(text: str) -> str:
    """A name with its control characters escaped: it cannot forge lines."""
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else ascii(c)[1:-1]
        for c in text
    )


class QieemoError(ValueError):
    """Base of all errors; a message names the place, the fault, the remedy."""


class AudioError(QieemoError):
    """An audio file that cannot be used.

    Arguments
    ---------
    message : str
        Names the file, the fault and the remedy.
    path : str or Path
        The file.
    """

    # `path` has a default because pickle and DataLoader workers rebuild an
    # exception from its message alone.
    def __init__(self, message: str, path: str | Path = ""):
        super().__init__(message)
        self.path = os.fspath(path)


class CorpusError(QieemoError):
    """A corpus, a manifest or a run's options that do not fit."""


class TokenError(QieemoError):
    """A tokenizer's file, or a text, that cannot be used."""


class CacheError(QieemoError):
    """A cache of encoder outputs that cannot be used."""


class ModelFolderError(QieemoError):
    """A model folder or an export that is incomplete or damaged."""


class EvaluationError(QieemoError):
    """A table or a figure that cannot be made with these options."""

"""Models by name: folders, those that come with the package, the hub's."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qieemo_sb.errors import ModelFolderError, QieemoError
from qieemo_sb.serving.folder import CONFIG

if TYPE_CHECKING:
    from qieemo_sb.serving.predictor import Predictor

DEFAULT = "open"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # user/name
# Installed inside the package; in a checkout, beside it.
PLACES = [Path(__file__).parents[k] / "pretrained" for k in (1, 2)]


def shipped_models() -> dict[str, Path]:
    """Names of the models that ship, and their folders."""
    return {
        config.parent.name: config.parent
        for place in PLACES
        for config in sorted(place.glob(f"*/{CONFIG}"))
    }


def find_model(name: str | Path) -> Path:
    """The folder of a model, sought in three places.

    Arguments
    ---------
    name : str or Path
        A folder; else the name of a model that ships; else a text such as
        "user/name": a model on the Hugging Face hub, which is downloaded once.

    Raises
    ------
    ModelFolderError
        There is no such folder, no such model ships, and the hub has none.

    Example
    -------
    >>> find_model("open").name
    'open'
    """
    path, models = Path(name), shipped_models()
    if path.is_dir() and (str(name) not in models or any(path.glob("*.json"))):
        return path
    if str(name) in models:
        return models[str(name)]
    near = difflib.get_close_matches(str(name), models, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    reason = (
        f"There is no folder {name}, and no model of that name ships: those "
        f"that do are {', '.join(models) or 'none'}.{hint}"
    )
    if not (isinstance(name, str) and HUB_ID.fullmatch(name)):
        raise ModelFolderError(reason)
    from qieemo_sb.serving.hub import download

    try:
        return download(name)
    except QieemoError as error:
        raise ModelFolderError(f"{reason} {error}") from error


def load_any(
    name: str | Path, device: str = "cpu", threshold: float = 0.0
) -> Predictor:
    """Load a model or an export, whichever the folder is.

    Arguments
    ---------
    name : str or Path
        As of ``find_model``; the folder may be an export.
    device : str
        Where a model computes; an export always does on the processor.
    threshold : float
        See ``load_model``.

    Returns
    -------
    EmotionClassifier or OnnxClassifier

    Raises
    ------
    ModelFolderError
        There is no such model, or it is incomplete or damaged.
    QieemoError
        The device cannot be used here.
    """
    from qieemo_sb.serving.onnx.classifier import GRAPH, OnnxClassifier

    folder = find_model(name)
    if (folder / GRAPH).exists():
        return OnnxClassifier.from_folder(folder, threshold=threshold)
    from qieemo_sb.serving.classifier import load_model

    return load_model(folder, device, threshold)


def check_device(device: Any) -> None:
    """Raise QieemoError for a device of torch that cannot be used here."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise QieemoError(
            f"The device {device} cannot be used here ({reason}): name "
            "another, such as cpu."
        ) from error

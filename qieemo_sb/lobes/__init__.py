"""The network above the encoder, in torch alone.

Rivals share a file, and a dictionary there names them: ``BLOCKS``,
``FUSIONS``, ``POOLINGS``, ``PPG_HEADS``, ``CLASSIFIERS``. A model folder names
a lobe by its key there.
"""

import inspect
from typing import Any

from torch import nn


class Part(nn.Module):
    """A part of a model that keeps the plain values it was built from.

    ``type(part)(**part.config)`` builds another one of the same shape:
    ``config`` holds the arguments of the constructor, defaults included.
    """

    config: dict[str, Any]

    def __new__(cls, *args, **kwargs):
        """Keep the arguments of a new part."""
        part = super().__new__(cls)
        given = inspect.signature(cls.__init__).bind_partial(
            part, *args, **kwargs
        )  # partial, as a copy is made without arguments
        given.apply_defaults()
        _, *arguments = given.arguments.items()
        part.config = {
            name: list(value) if isinstance(value, list | tuple) else value
            for name, value in arguments
        }
        return part

"""Parts that remember how they were built, so a bundle can build them again."""

import functools
import inspect
from typing import Any

import torch


class Remembering:
    """Keeps its constructor's arguments in ``config``.

    ``type(part)(**part.config)`` makes a part of the same shape. A part whose
    arguments name something outside of it (pretrained weights, say) overrides
    ``rebuild_config``.

    Example
    -------
    >>> class Scale(Remembering):
    ...     def __init__(self, size, gain=1.0):
    ...         self.size = size * gain
    >>> Scale(3).rebuild_config()
    {'size': 3, 'gain': 1.0}
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _remember(cls.__init__)

    def rebuild_config(self) -> dict[str, Any]:
        """Constructor arguments that make this part again, without weights."""
        return dict(self.config)


class Rebuildable(Remembering, torch.nn.Module):
    """A module that remembers how it was built."""


def _remember(init):
    """Wrap a constructor: bind its arguments before it runs."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        init(self, *args, **kwargs)
        # The outermost constructor finishes last, and its arguments win.
        config = dict(list(bound.arguments.items())[1:])
        object.__setattr__(self, "config", config)

    return wrapper

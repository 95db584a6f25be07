"""The network above the encoder, in torch alone.

Rivals share a file, and a dictionary there names them: ``BLOCKS``,
``FUSIONS``, ``POOLINGS``, ``PPG_HEADS``, ``CLASSIFIERS``. A model folder names
a lobe by its key there.
"""

from torch import nn


class Part(nn.Module):
    """A part of a model that keeps the plain values it was built from.

    ``type(part)(**part.config)`` builds another one of the same shape.

    Arguments
    ---------
    **config : bool, int, float, str, list or dict
        The constructor's arguments.
    """

    def __init__(self, **config):
        super().__init__()
        self.config = config

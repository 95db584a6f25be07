"""Average pooling: every frame weighs the same.

Authors
 * The Qieemo-SB authors 2026
"""

from qieemo_sb.lobes.pooling import StatisticsPooling


class AveragePooling(StatisticsPooling):
    """Mean of an utterance's frames: the head that attention has to beat.

    Frames past an utterance's end do not count. Computed in float32.

    Arguments
    ---------
    width : int
        H of the frames and E of the vector.

    Example
    -------
    >>> import torch
    >>> pool = AveragePooling(width=6)
    >>> pool(torch.randn(2, 7, 6), torch.tensor([7, 3])).shape
    torch.Size([2, 6])
    """

    def __init__(self, width: int):
        super().__init__(width)
        self.embedding_width = width

    def _vector(self, mean, variance):
        """Statistics [..., H] each → [..., H]."""
        return mean

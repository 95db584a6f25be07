"""Dropout at a byte of chance a number.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

LEVELS = 256  # of a byte


class Dropout(torch.nn.Dropout):
    """``torch.nn.Dropout``, on processors several times as fast.

    There torch draws a float for every number, which takes as long as a
    small lobe's products. A byte does as well, but that ``p`` is rounded to
    steps of 1/256; what is kept is scaled by what is kept on average.

    Arguments
    ---------
    p, inplace
        As of ``torch.nn.Dropout``.

    Example
    -------
    >>> Dropout(0.5)(torch.ones(1000)).unique()
    tensor([0., 2.])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero some numbers of ``x`` [...] in training, scale the others."""
        level = round(LEVELS * self.p)
        drawn = self.training and 0 < level < LEVELS
        if not drawn or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
        words.random_(torch.iinfo(torch.int64).min, None)  # all of its bits
        chance = words.view(torch.uint8)[: x.numel()].view(x.shape)
        kept = (chance >= level).to(x.dtype)
        return x * kept.mul_(LEVELS / (LEVELS - level))

"""The emotion classifier on pooled statistics.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

from qieemo_sb.rebuild import Rebuildable


class Classifier(Rebuildable):
    """LayerNorm → dropout → linear → log-softmax.

    Arguments
    ---------
    width : int
        E, the size of the pooled vector.
    n_classes : int
        C.
    dropout : float
        Before the linear layer.

    Example
    -------
    >>> classifier = Classifier(width=12, n_classes=4)
    >>> classifier(torch.randn(2, 12)).exp().sum(-1).round(decimals=4)
    tensor([1., 1.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, width: int, n_classes: int, dropout: float = 0.3):
        super().__init__()
        self.n_classes = n_classes
        self.norm = torch.nn.LayerNorm(width)
        self.dropout = torch.nn.Dropout(dropout)
        self.linear = torch.nn.Linear(width, n_classes)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Classify.

        Arguments
        ---------
        embedding : torch.Tensor
            [..., E].

        Returns
        -------
        torch.Tensor
            [..., C] log-probabilities, float32.
        """
        logits = self.linear(self.dropout(self.norm(embedding)))
        return logits.float().log_softmax(dim=-1)

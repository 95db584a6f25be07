"""The emotion classifier on pooled statistics."""

from collections.abc import Sequence

from torch import Tensor, nn

from qieemo_sb.lobes import Part
from qieemo_sb.lobes.normalization import Dropout, Moments, RunningMoments

MEMORY = 1000  # vectors over which the running statistics forget
LIMIT = 5.0  # deviations: no outlier may decide alone


class Classifier(Part):
    """Standardised vector → dropout → linear → log-softmax.

    Each element of the vector is standardised over the training data and
    clipped at five standard deviations. Adapted to a speaker, it is
    standardised by the moments of that speaker instead.

    Arguments
    ---------
    width : int or sequence of int
        E, the size of the pooled vector, or the sizes of its parts.
    n_classes : int
        C.
    dropout : float
        Before the linear layer.

    Example
    -------
    >>> import torch
    >>> classifier = Classifier(width=12, n_classes=4)
    >>> classifier(torch.randn(2, 12)).exp().sum(-1).round(decimals=4)
    tensor([1., 1.], grad_fn=<RoundBackward1>)
    """

    def __init__(
        self, width: int | Sequence[int], n_classes: int, dropout: float = 0.3
    ):
        super().__init__()
        self.width = width if isinstance(width, int) else sum(width)
        self.config["width"] = self.width
        self.n_classes = n_classes
        self.standard = RunningMoments(self.width, memory=MEMORY)
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(self.width, n_classes)
        # A vector may have thousands of elements. From zero, training stays
        # near the smallest weights that fit; random ones would have to fade.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, embedding: Tensor, speaker: Moments | None = None
    ) -> Tensor:
        """Classify.

        Arguments
        ---------
        embedding : torch.Tensor
            [..., E].
        speaker : Moments or None
            Of ``speaker_moments``: [E] of one speaker, or [..., E] with one
            speaker for each embedding. None: those of the training data,
            which in training are updated with these vectors.

        Returns
        -------
        torch.Tensor
            [..., C] log-probabilities, float32.
        """
        return self.logits(embedding, speaker).float().log_softmax(dim=-1)

    def logits(
        self, embedding: Tensor, speaker: Moments | None = None
    ) -> Tensor:
        """Scores [..., C] before the softmax; see ``forward``."""
        if speaker is None:
            speaker = self.standard.moments
            if self.training:
                self.standard.update(embedding.reshape(-1, self.width))
        x = self.standardised(embedding, speaker)
        return self.linear(self.dropout(x))

    def standardised(
        self, embedding: Tensor, speaker: Moments | None = None
    ) -> Tensor:
        """Vectors [..., E] that the linear layer takes; see ``forward``."""
        moments = speaker or self.standard.moments
        return moments.standardise(embedding).clamp(-LIMIT, LIMIT)


CLASSIFIERS = {"Classifier": Classifier}

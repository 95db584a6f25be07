"""The emotion classifier on pooled statistics."""

from collections.abc import Sequence

from torch import Tensor, nn

from qieemo_sb.lobes import Part
from qieemo_sb.lobes.normalization import Dropout, Moments, RunningMoments

MEMORY = 1000  # vectors that the running statistics look back on
LIMIT = 5.0  # deviations: what training never heard is not to decide alone


class Classifier(Part):
    """Standardised vector → dropout → linear → log-softmax.

    Each number of the vector is brought to mean zero and variance one over
    the training data, as the mixer does with channels, and kept within five
    deviations: means and deviations of channels differ in scale. Adapted to a
    speaker, it takes the speaker's own mean and variance.

    Arguments
    ---------
    width : int or sequence of int
        E, the size of the pooled vector; or the sizes of the vectors that it
        is joined of.
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

    def __init__(
        self, width: int | Sequence[int], n_classes: int, dropout: float = 0.3
    ):
        width = width if isinstance(width, int) else sum(width)
        super().__init__(width=width, n_classes=n_classes, dropout=dropout)
        self.width = width
        self.n_classes = n_classes
        self.standard = RunningMoments(self.width, memory=MEMORY)
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(self.width, n_classes)
        # The numbers may be thousands, and as many random weights a bias to
        # grow out of: training from zero stays near the smallest that fit.
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
            Of ``adaptation.adapted``: for one speaker [E], or for each
            embedding its own [..., E]. None: those of the training data,
            which in training take these vectors in.

        Returns
        -------
        torch.Tensor
            [..., C] log-probabilities, float32.
        """
        return self.logits(embedding, speaker).float().log_softmax(dim=-1)

    def logits(
        self, embedding: Tensor, speaker: Moments | None = None
    ) -> Tensor:
        """What ``forward`` makes log-probabilities of, [..., C]."""
        if speaker is None:
            speaker = self.standard.moments
            if self.training:
                rows = embedding.detach().reshape(-1, self.width)
                self.standard.update(rows)
        x = speaker.standardise(embedding).clamp(-LIMIT, LIMIT)
        return self.linear(self.dropout(x))


CLASSIFIERS = {"Classifier": Classifier}

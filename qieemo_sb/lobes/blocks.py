"""Emotional features: one of the encoder's blocks, or a mix of several."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qieemo_sb.errors import QieemoError
from qieemo_sb.lobes import Part
from qieemo_sb.lobes.normalization import EPSILON, Moments, RunningMoments
from qieemo_sb.lobes.ragged import pack

MEMORY = 50_000  # frames over which the running statistics forget: 1000 s


class WeightedSum(Part):
    r"""Weighted sum of blocks, which ``BlockMixer`` has to beat.

    .. math:: x_t = \sum_{k \in K} \mathrm{softmax}(w)_k \, h^{(k)}_t

    as in SUPERB (arXiv 2105.01051). Nothing is standardised: a block with
    larger numbers counts more.

    Arguments
    ---------
    blocks : sequence of int
        K, counted from 1; 0 is the input of block 1.
    d_model : int
        D, the encoder's width.

    Raises
    ------
    QieemoError
        No block, or one given twice.

    Example
    -------
    >>> mixer = WeightedSum(blocks=[1, 2], d_model=4)
    >>> hidden = {1: torch.zeros(2, 3, 4), 2: torch.ones(2, 3, 4)}
    >>> mixer(hidden, torch.tensor([3, 1])).unique()
    tensor([0.5000], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, blocks: Sequence[int], d_model: int):
        super().__init__()
        check_distinct(blocks)
        self.blocks = list(blocks)
        self.d_model = d_model
        self.logits = nn.Parameter(torch.zeros(len(self.blocks)))

    def weights(self) -> Tensor:
        """[K] weights of the blocks; they add up to one."""
        return self.logits.softmax(dim=0)

    def forward(
        self, hidden_states: dict[int, Tensor], lengths: Tensor
    ) -> Tensor:
        """Mix blocks.

        Arguments
        ---------
        hidden_states : dict of int to torch.Tensor
            Block → [B, T, D].
        lengths : torch.Tensor
            [B] frames. In training a ``BlockMixer`` updates its statistics
            with them.

        Returns
        -------
        torch.Tensor
            [B, T, D].
        """
        return sum(
            weight * hidden_states[k]
            for weight, k in zip(self.weights(), self.blocks, strict=True)
        )


class BlockMixer(WeightedSum):
    r"""Weighted sum of blocks, each channel standardised.

    .. math:: x_t = \sum_{k \in K} \mathrm{softmax}(w)_k \,
              (h^{(k)}_t - \mu^{(k)}) / \sigma^{(k)}

    Mean and standard deviation of each channel are measured over the frames of
    the training data. A few channels of a Whisper block are a hundred times
    larger than the rest, and would dominate a norm over the channels of each
    frame.

    Arguments
    ---------
    blocks, d_model
        As of ``WeightedSum``, as are errors and ``forward``.

    Example
    -------
    >>> mixer = BlockMixer(blocks=[1, 2], d_model=4)
    >>> hidden = {1: torch.randn(2, 3, 4), 2: torch.randn(2, 3, 4)}
    >>> mixer(hidden, torch.tensor([3, 1])).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, blocks: Sequence[int], d_model: int):
        super().__init__(blocks, d_model)
        if len(self.blocks) == 1:
            self.logits = None  # type: ignore[assignment]
        self.standard = RunningMoments(len(self.blocks), d_model, memory=MEMORY)

    def weights(self) -> Tensor:
        """[K] weights of the blocks; they add up to one."""
        return torch.ones(1) if self.logits is None else super().weights()

    def forward(
        self, hidden_states: dict[int, Tensor], lengths: Tensor
    ) -> Tensor:
        """Mix blocks; see ``WeightedSum.forward``."""
        blocks = [hidden_states[k] for k in self.blocks]
        if self.training:
            self._update(blocks, lengths.tolist())
        weights = self.weights().to(blocks[0].device).unsqueeze(1)
        scales = weights * (self.standard.variance + EPSILON).rsqrt()
        means = self.standard.mean
        mixed = means.new_zeros(())
        for x, mean, scale in zip(blocks, means, scales, strict=True):
            mixed = torch.addcmul(mixed, x - mean, scale)
        return mixed

    @torch.no_grad()
    def _update(self, blocks, sizes):
        """Add the frames of blocks [B, T, D] to the statistics."""
        each = [Moments.of(pack(x, sizes)) for x in blocks]
        (count, *_), means, variances = zip(*each, strict=True)
        means, variances = torch.stack(means), torch.stack(variances)
        self.standard.merge(Moments(count, means, variances))


BLOCKS = {"BlockMixer": BlockMixer, "WeightedSum": WeightedSum}


def check_distinct(blocks: Sequence[int]) -> None:
    """Raise QieemoError for no blocks, or for one given twice."""
    if not blocks or len(set(blocks)) != len(blocks):
        raise QieemoError(f"Distinct blocks are needed, not {list(blocks)}.")

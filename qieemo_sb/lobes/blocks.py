"""Emotional features: one of the encoder's blocks, or a mix of several."""

from collections.abc import Sequence

import torch

from qieemo_sb.lobes.normalization import EPSILON, Moments, Standard
from qieemo_sb.lobes.ragged import pack
from qieemo_sb.rebuild import Rebuildable

MEMORY = 50_000  # frames that the running statistics look back on: 1000 s


class BlockMixer(Rebuildable):
    r"""Weighted sum of blocks, each channel standardised.

    .. math:: x_t = \sum_{k \in K} \mathrm{softmax}(w)_k \,
              (h^{(k)}_t - \mu^{(k)}) / \sigma^{(k)}

    Mean and standard deviation of each channel over the frames of the training
    data are gathered while training. A few channels of a Whisper block are a
    hundred times larger than the rest: to norm each frame over its channels
    instead would leave little else audible. A weighted sum of blocks is
    SUPERB's (arXiv 2105.01051).

    Arguments
    ---------
    blocks : sequence of int
        K, 1-based; 0 is the input of block 1.
    d_model : int
        D, the encoder's width.

    Example
    -------
    >>> mixer = BlockMixer(blocks=[1, 2], d_model=4)
    >>> hidden = {1: torch.randn(2, 3, 4), 2: torch.randn(2, 3, 4)}
    >>> mixer(hidden, torch.tensor([3, 1])).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, blocks: Sequence[int], d_model: int):
        super().__init__()
        if not blocks or len(set(blocks)) != len(blocks):
            raise ValueError(f"BlockMixer needs distinct blocks, not {blocks}.")
        self.blocks = list(blocks)
        self.d_model = d_model
        if len(self.blocks) > 1:
            self.logits = torch.nn.Parameter(torch.zeros(len(self.blocks)))
        self.standard = Standard(len(self.blocks), d_model, memory=MEMORY)

    def weights(self) -> torch.Tensor:
        """[K] weights of the blocks; they add up to one."""
        if len(self.blocks) == 1:
            return torch.ones(1)
        return self.logits.softmax(dim=0)

    def forward(
        self, hidden_states: dict[int, torch.Tensor], lengths: torch.Tensor
    ) -> torch.Tensor:
        """Mix blocks.

        Arguments
        ---------
        hidden_states : dict of int to torch.Tensor
            Block → [B, T, D].
        lengths : torch.Tensor
            [B] frames. In training, those frames enter the statistics.

        Returns
        -------
        torch.Tensor
            [B, T, D].
        """
        blocks = [hidden_states[k] for k in self.blocks]
        if self.training:
            self._hear(blocks, lengths.tolist())
        weights = self.weights().to(blocks[0].device).unsqueeze(1)
        scales = weights * (self.standard.variance + EPSILON).rsqrt()
        mixed = self.standard.mean.new_zeros(())
        for x, mean, scale in zip(
            blocks, self.standard.mean, scales, strict=True
        ):
            mixed = torch.addcmul(mixed, x - mean, scale)
        return mixed

    @torch.no_grad()
    def _hear(self, blocks, sizes):
        """Take the frames of blocks [B, T, D] into the statistics."""
        heard = [Moments.of(pack(x, sizes)) for x in blocks]
        count, means, variances = zip(*heard, strict=True)
        moments = Moments(count[0], torch.stack(means), torch.stack(variances))
        self.standard.merge(moments)


class WeightedSum(Rebuildable):
    r"""Weighted sum of blocks, which ``BlockMixer`` has to beat.

    .. math:: x_t = \sum_{k \in K} \mathrm{softmax}(w)_k \, h^{(k)}_t

    as in SUPERB (arXiv 2105.01051). Nothing is standardised: a block of
    larger numbers weighs more. One block alone is that block.

    Arguments
    ---------
    blocks : sequence of int
        K, 1-based; 0 is the input of block 1.
    d_model : int
        D, the encoder's width.

    Example
    -------
    >>> mixer = WeightedSum(blocks=[1, 2], d_model=4)
    >>> hidden = {1: torch.zeros(2, 3, 4), 2: torch.ones(2, 3, 4)}
    >>> mixer(hidden, torch.tensor([3, 1])).unique()
    tensor([0.5000], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, blocks: Sequence[int], d_model: int):
        super().__init__()
        if not blocks or len(set(blocks)) != len(blocks):
            raise ValueError(
                f"WeightedSum needs distinct blocks, not {blocks}."
            )
        self.blocks = list(blocks)
        self.d_model = d_model
        self.logits = torch.nn.Parameter(torch.zeros(len(self.blocks)))

    def weights(self) -> torch.Tensor:
        """[K] weights of the blocks; they add up to one."""
        return self.logits.softmax(dim=0)

    def forward(
        self, hidden_states: dict[int, torch.Tensor], lengths: torch.Tensor
    ) -> torch.Tensor:
        """Mix blocks.

        Arguments
        ---------
        hidden_states : dict of int to torch.Tensor
            Block → [B, T, D].
        lengths : torch.Tensor
            [B] frames. Not used: each frame is mixed by itself.

        Returns
        -------
        torch.Tensor
            [B, T, D].
        """
        weights = self.weights()
        return sum(
            weight * hidden_states[k]
            for weight, k in zip(weights, self.blocks, strict=True)
        )

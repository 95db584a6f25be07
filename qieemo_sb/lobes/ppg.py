"""The phonetic posteriorgram (PPG): token posteriors of every frame."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from qieemo_sb.errors import QieemoError
from qieemo_sb.lobes import Part
from qieemo_sb.lobes.normalization import Dropout
from qieemo_sb.lobes.ragged import pack, unpack
from qieemo_sb.lobes.tokens import frames_needed

LAYERS = 2  # of neighbours


class Neighbours(nn.Module):
    """LayerNorm → GELU → convolution over the frames around each frame.

    Beyond the ends of an utterance stand zeros. One matrix product over all
    frames, so that an utterance gets the same numbers alone and in a batch; a
    convolution over a batch rounds differently from one over a clip.

    Arguments
    ---------
    width : int
        W of the input and the output.
    context : int
        Frames of the convolution's kernel, odd.
    """

    def __init__(self, width: int, context: int):
        super().__init__()
        self.context = context
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(context * width, width)

    def forward(self, x: Tensor, sizes: list[int]) -> Tensor:
        """Packed frames [ΣT, W] of ``sizes`` each → [ΣT, W]."""
        x = F.gelu(self.norm(x))
        if self.context == 1:
            return self.linear(x)
        x = unpack(x, sizes, max(sizes))  # [B, T, W]
        half = self.context // 2
        around = F.pad(x, (0, 0, half, half)).unfold(1, self.context, 1)
        return self.linear(pack(around.flatten(2), sizes))


class PPGHead(Part):
    r"""CTC head: token posteriors of each frame from the frames around it.

    LayerNorm → Linear → two layers of ``Neighbours``, each with a residual
    path → GELU → Linear → log-softmax. Whisper's last block spreads a sound
    over several frames, so a frame with its neighbours is transcribed better
    than alone (see the recipe's README).

    Arguments
    ---------
    d_model : int
        D, the encoder's width.
    n_tokens : int
        V, tokens with the CTC blank, which is token 0.
    hidden : int
        Width of the layers.
    context : int
        Frames of each layer's kernel, odd; 1: each frame by itself.
    dropout : float
        On the input and on every layer.

    Raises
    ------
    QieemoError
        ``context`` is even.

    Example
    -------
    >>> head = PPGHead(d_model=8, n_tokens=5, hidden=16)
    >>> ppg = head(torch.randn(2, 7, 8), torch.tensor([7, 3]))
    >>> ppg.shape, bool(torch.allclose(ppg.exp().sum(-1), torch.ones(2, 7)))
    (torch.Size([2, 7, 5]), True)
    """

    def __init__(
        self,
        d_model: int,
        n_tokens: int,
        hidden: int = 256,
        context: int = 5,
        dropout: float = 0.1,
    ):
        super().__init__()
        if context % 2 != 1:
            raise QieemoError(f"PPGHead: context {context} must be odd.")
        self.n_tokens = n_tokens
        self.frozen = False
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(d_model)
        self.inward = nn.Linear(d_model, hidden)
        self.layers = nn.ModuleList(
            Neighbours(hidden, context) for _ in range(LAYERS)
        )
        self.outward = nn.Linear(hidden, n_tokens)

    def forward(self, last_block: Tensor, lengths: Tensor) -> Tensor:
        """Token log-probabilities of every frame.

        Arguments
        ---------
        last_block : torch.Tensor
            [B, T, D].
        lengths : torch.Tensor
            [B] frames, at least one each.

        Returns
        -------
        torch.Tensor
            [B, T, V] log-probabilities, float32; uniform past the lengths.
        """
        sizes, frames = lengths.tolist(), last_block.shape[1]
        x = self.dropout(self.norm(pack(last_block, sizes)))  # [ΣT, D]
        x = self.inward(x)
        for layer in self.layers:
            x = x + self.dropout(layer(x, sizes))
        scores = unpack(self.outward(F.gelu(x)), sizes, frames)  # [B, T, V]
        return scores.float().log_softmax(dim=-1)

    def freeze(self) -> "PPGHead":
        """Give the head no gradient, and keep it in eval mode for good."""
        self.frozen = True
        return self.requires_grad_(False).train(False)

    def train(self, mode: bool = True) -> "PPGHead":
        """Set the mode; a frozen head stays in eval mode."""
        return super().train(mode and not self.frozen)


class PretrainedPPGHead(Part):
    """Linear → log-softmax: the CTC head of a checkpoint, frozen.

    It stays frozen because an emotion loss would soon change its tokens.

    Arguments
    ---------
    d_model, n_tokens
        As of ``PPGHead``.

    Example
    -------
    >>> head = PretrainedPPGHead(d_model=8, n_tokens=5)
    >>> head(torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 5])
    """

    def __init__(self, d_model: int, n_tokens: int):
        super().__init__()
        self.n_tokens = n_tokens
        self.frozen = True
        self.linear = nn.Linear(d_model, n_tokens)
        self.requires_grad_(False)

    def forward(self, last_block: Tensor, lengths: Tensor) -> Tensor:
        """Token log-probabilities of every frame; see ``PPGHead.forward``."""
        return self.linear(last_block).log_softmax(dim=-1)


PPG_HEADS = {"PPGHead": PPGHead, "PretrainedPPGHead": PretrainedPPGHead}


def greedy(ppg: Tensor, lengths: Tensor) -> list[list[int]]:
    """Best path of CTC: each frame's best token, without repeats and blanks.

    Arguments
    ---------
    ppg : torch.Tensor
        [B, T, V] probabilities or their logarithms.
    lengths : torch.Tensor
        [B] frames.

    Returns
    -------
    list of list of int
        Token indices of each utterance.

    Example
    -------
    >>> path = torch.tensor([[1, 1, 0, 1, 2, 2, 1]])
    >>> greedy(torch.nn.functional.one_hot(path), torch.tensor([6]))
    [[1, 1, 2]]
    """
    paths = ppg.argmax(dim=-1)
    best = []
    for path, size in zip(paths, lengths.tolist(), strict=True):
        tokens = path[:size].unique_consecutive()
        best.append(tokens[tokens != 0].tolist())
    return best


def align(ppg: Tensor, tokens: list[int]) -> list[tuple[int, int, int, float]]:
    """Align the tokens of a transcript with frames, by CTC's best path.

    Arguments
    ---------
    ppg : torch.Tensor
        [T, V] log-probabilities of one utterance.
    tokens : list of int
        Indices of its transcript, without blanks.

    Returns
    -------
    list of tuple
        Index, first frame, frame after the last, and mean posterior of each
        token.

    Raises
    ------
    QieemoError
        There is nothing to align, or more than the frames can hold.

    Example
    -------
    >>> ppg = torch.tensor([[0.1, 0.9], [0.9, 0.1], [0.4, 0.6]]).log()
    >>> [(token, start, end) for token, start, end, _ in align(ppg, [1, 1])]
    [(1, 0, 1), (1, 2, 3)]
    """
    # Imported here: classifying does not need torchaudio, which loads slowly.
    from torchaudio.functional import forced_align, merge_tokens

    needed = frames_needed(tokens)
    if not tokens or needed > len(ppg):
        raise QieemoError(
            f"{len(tokens)} tokens need {needed} frames to be aligned; there "
            f"are {len(ppg)}."
        )
    path, scores = forced_align(
        ppg.detach().float().cpu().contiguous()[None],
        torch.tensor([tokens], dtype=torch.int32),
        blank=0,
    )
    spans = merge_tokens(path[0], scores[0].exp())
    return [(s.token, s.start, s.end, s.score) for s in spans]

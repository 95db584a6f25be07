"""CMA, cross-modal attention: each stream read from across the utterance.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

from qieemo_sb.lobes.dropout import Dropout
from qieemo_sb.packing import pack, packed_attention, unpack
from qieemo_sb.rebuild import Rebuildable


class CrossAttention(torch.nn.Module):
    """Multi-head attention from fused frames to one stream.

    Arguments
    ---------
    width : int
        H of the queries and of the result.
    stream_width : int
        Width of the stream that is read.
    heads : int
        H is split among them.
    """

    def __init__(self, width: int, stream_width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.queries = torch.nn.Linear(width, width)
        self.keys = torch.nn.Linear(stream_width, width, bias=False)
        self.values = torch.nn.Linear(stream_width, width)
        self.out = torch.nn.Linear(width, width)

    def forward(
        self, fused: torch.Tensor, stream: torch.Tensor, sizes: list[int]
    ) -> torch.Tensor:
        """Packed frames [ΣT, H], [ΣT, D] of ``sizes`` each → [ΣT, H]."""
        attended = packed_attention(
            self.queries(fused),
            self.keys(stream),
            self.values(stream),
            sizes,
            self.heads,
        )
        return self.out(attended)


class CMA(Rebuildable):
    r"""Fused frames ask the PPG and the emotional features of all frames.

    .. math::

        q_t &= \mathrm{LN}(f_t) \\
        a_t &= \mathrm{MHA}_p(q_t, \pi_{1:T}) + \mathrm{MHA}_e(q_t, x_{1:T})\\
        y_t &= f_t + \mathrm{Dropout}(a_t) \\
        z_t &= \mathrm{LN}(y_t + \mathrm{Dropout}(\mathrm{FFN}(
               \mathrm{LN}(y_t))))

    MHA is multi-head attention (arXiv 1706.03762) whose queries come from the
    fused frames and whose keys and values come from one stream. This is our
    reading of the abstract of arXiv 2503.22687, which names the module and
    gives no formula.

    Arguments
    ---------
    n_tokens : int
        V of the PPG.
    d_model : int
        D of the emotional features.
    width : int
        H of the fused frames and of the result.
    heads : int
        Attention heads; H must be a multiple.
    ffn : int
        Inner width of FFN.
    dropout : float
        On both residual branches.

    Example
    -------
    >>> cma = CMA(n_tokens=5, d_model=8, width=6, heads=2, ffn=12)
    >>> ppg = torch.randn(2, 7, 5).log_softmax(-1)
    >>> fused, emotional = torch.randn(2, 7, 6), torch.randn(2, 7, 8)
    >>> cma(fused, ppg, emotional, torch.tensor([7, 3])).shape
    torch.Size([2, 7, 6])
    """

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        width: int,
        heads: int = 4,
        ffn: int = 512,
        dropout: float = 0.1,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"CMA: width {width} is no multiple of {heads}.")
        self.width = width
        self.dropout = Dropout(dropout)
        self.attention_norm = torch.nn.LayerNorm(width)
        self.emotional_norm = torch.nn.LayerNorm(d_model)
        self.to_ppg = CrossAttention(width, n_tokens, heads)
        self.to_emotional = CrossAttention(width, d_model, heads)
        self.ffn = torch.nn.Sequential(
            torch.nn.LayerNorm(width),
            torch.nn.Linear(width, ffn),
            torch.nn.GELU(),
            Dropout(dropout),
            torch.nn.Linear(ffn, width),
        )
        self.norm = torch.nn.LayerNorm(width)

    def forward(
        self,
        fused: torch.Tensor,
        ppg: torch.Tensor,
        emotional: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Attend across the frames of each utterance.

        Arguments
        ---------
        fused : torch.Tensor
            [B, T, H].
        ppg : torch.Tensor
            [B, T, V] log-probabilities.
        emotional : torch.Tensor
            [B, T, D].
        lengths : torch.Tensor
            [B] frames, at least one each.

        Returns
        -------
        torch.Tensor
            [B, T, H], zero past the lengths.
        """
        sizes, frames = lengths.tolist(), fused.shape[1]
        fused, ppg, emotional = (
            pack(x, sizes) for x in (fused, ppg, emotional)
        )
        queries = self.attention_norm(fused)
        emotional = self.emotional_norm(emotional)
        attended = self.to_ppg(queries, ppg.exp(), sizes)
        attended = attended + self.to_emotional(queries, emotional, sizes)
        y = fused + self.dropout(attended)
        y = self.norm(y + self.dropout(self.ffn(y)))
        return unpack(y, sizes, frames)

"""Fusion of the PPG and the emotional features: MMF, CMA and their rivals.

All of them map two aligned streams to frames [B, T, H]. The abstract of arXiv
2503.22687 names MMF and CMA without formulas: those here are our reading.
A new fusion is a subclass of ``Fusion`` and a line of ``FUSIONS``.
"""

import operator

import torch
from torch import Tensor, nn

from qieemo_sb.errors import QieemoError
from qieemo_sb.lobes import Part
from qieemo_sb.lobes.normalization import Dropout
from qieemo_sb.lobes.ragged import pack, packed_attention, unpack


class Fusion(Part):
    """Base of the fusions.

    Arguments
    ---------
    n_tokens : int
        V of the PPG; 0 where a fusion works without.
    d_model : int
        D of the emotional features; 0 where a fusion works without.
    width : int
        H of the result.
    dropout : float
        Share of numbers that are dropped in training.
    """

    needs_both_streams = True

    def forward(
        self, ppg: Tensor, emotional: Tensor, lengths: Tensor
    ) -> Tensor:
        """Fuse frames.

        Arguments
        ---------
        ppg : torch.Tensor
            [B, T, V] log-probabilities.
        emotional : torch.Tensor
            [B, T, D]. Either may be None unless ``needs_both_streams``.
        lengths : torch.Tensor
            [B] frames, at least one each. Frames past them mean nothing and
            must not change the frames before them.

        Returns
        -------
        torch.Tensor
            [B, T, H].
        """
        raise NotImplementedError


class Concatenation(Fusion):
    """Concatenation of each frame, the baseline of MMF: ``LN(W [π_t; x_t])``.

    Works with one stream alone, too. Arguments as of ``Fusion``; dropout on
    the input.

    Example
    -------
    >>> join = Concatenation(n_tokens=5, d_model=8, width=6)
    >>> ppg = torch.randn(2, 7, 5).log_softmax(-1)
    >>> join(ppg, torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 6])
    """

    needs_both_streams = False

    def __init__(
        self, n_tokens: int, d_model: int, width: int, dropout: float = 0.1
    ):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(n_tokens + d_model, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, ppg: Tensor | None, emotional: Tensor | None, lengths: Tensor
    ) -> Tensor:
        """Fuse frames; see ``Fusion.forward``."""
        streams = [] if ppg is None else [ppg.exp()]
        streams += [] if emotional is None else [emotional]
        joined = self.dropout(torch.cat(streams, dim=-1))
        return self.norm(self.linear(joined))


class Projection(Fusion):
    """One linear layer on the emotional features; the PPG is not used.

    SUPERB's projector (arXiv 2105.01051): with average pooling after it, the
    embedding is linear in the features. Arguments as of ``Fusion``.

    Example
    -------
    >>> projection = Projection(d_model=8, width=6)
    >>> projection(None, torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 6])
    """

    needs_both_streams = False

    def __init__(self, d_model: int, width: int):
        super().__init__()
        self.linear = nn.Linear(d_model, width)

    def forward(
        self, ppg: Tensor | None, emotional: Tensor, lengths: Tensor
    ) -> Tensor:
        """Fuse frames; see ``Fusion.forward``."""
        return self.linear(emotional)


class MMF(Fusion):
    r"""Gated fusion, frame by frame.

    With :math:`\pi_t` the token posteriors and :math:`x_t` the emotional
    features of frame t:

    .. math::

        p_t &= \mathrm{LN}(W_p \pi_t), \quad e_t = \mathrm{LN}(W_e x_t) \\
        g_t &= \sigma(W_g [p_t; e_t] + b_g) \\
        m_t &= g_t \odot p_t + (1 - g_t) \odot e_t \\
        f_t &= \mathrm{LN}(e_t + \mathrm{Dropout}(W_o\,\mathrm{GELU}(m_t)))

    The gate lets each channel of each frame choose between the streams; the
    residual path keeps the emotional one, which is the better of the two.

    Arguments as of ``Fusion``; dropout on the emotional features and on the
    residual branch.

    Example
    -------
    >>> mmf = MMF(n_tokens=5, d_model=8, width=6)
    >>> ppg = torch.randn(2, 7, 5).log_softmax(-1)
    >>> mmf(ppg, torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 6])
    """

    def __init__(
        self, n_tokens: int, d_model: int, width: int, dropout: float = 0.1
    ):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.from_ppg = nn.Linear(n_tokens, width)
        self.from_emotional = nn.Linear(d_model, width)
        self.ppg_norm = nn.LayerNorm(width)
        self.emotional_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, ppg: Tensor, emotional: Tensor, lengths: Tensor
    ) -> Tensor:
        """Fuse frames; see ``Fusion.forward``."""
        p = self.ppg_norm(self.from_ppg(ppg.exp()))
        e = self.emotional_norm(self.from_emotional(self.dropout(emotional)))
        gate = torch.sigmoid(self.gate(torch.cat([p, e], dim=-1)))
        # On GPUs autocast leaves norms in float32 and linear layers not.
        mixed = torch.lerp(e, p, gate.to(e.dtype))
        mixed = self.out(torch.nn.functional.gelu(mixed))
        return self.norm(e + self.dropout(mixed))


class CrossAttention(nn.Module):
    """Multi-head attention from fused frames to one stream.

    Arguments
    ---------
    width : int
        H of the queries and of the result.
    stream_width : int
        Width of the stream.
    heads : int
        H is split among them.
    """

    def __init__(self, width: int, stream_width: int, heads: int):
        super().__init__()
        self.heads = operator.index(heads)  # TypeError for a fraction
        self.queries = nn.Linear(width, width)
        self.keys = nn.Linear(stream_width, width, bias=False)
        self.values = nn.Linear(stream_width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, fused: Tensor, stream: Tensor, sizes: list[int]
    ) -> Tensor:
        """Packed frames [ΣT, H], [ΣT, D] of ``sizes`` each → [ΣT, H]."""
        attended = packed_attention(
            self.queries(fused),
            self.keys(stream),
            self.values(stream),
            sizes,
            self.heads,
        )
        return self.out(attended)


class CMA(Fusion):
    r"""Cross-modal attention: each fused frame attends to both streams.

    .. math::

        q_t &= \mathrm{LN}(f_t) \\
        a_t &= \mathrm{MHA}_p(q_t, \pi_{1:T}) + \mathrm{MHA}_e(q_t, x_{1:T})\\
        y_t &= f_t + \mathrm{Dropout}(a_t) \\
        z_t &= \mathrm{LN}(y_t + \mathrm{Dropout}(\mathrm{FFN}(
               \mathrm{LN}(y_t))))

    MHA is multi-head attention (arXiv 1706.03762) whose queries come from the
    fused frames and whose keys and values come from one stream. Unlike its
    rivals it also takes the output of another fusion.

    Arguments
    ---------
    n_tokens, d_model, width
        As of ``Fusion``.
    heads : int
        Attention heads; H must be a multiple.
    ffn : int
        Inner width of FFN.
    dropout : float
        On both residual branches.

    Raises
    ------
    QieemoError
        H is no multiple of ``heads``.

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
            raise QieemoError(f"CMA: width {width} is no multiple of {heads}.")
        self.dropout = Dropout(dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.emotional_norm = nn.LayerNorm(d_model)
        self.to_ppg = CrossAttention(width, n_tokens, heads)
        self.to_emotional = CrossAttention(width, d_model, heads)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, ffn),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(ffn, width),
        )
        self.norm = nn.LayerNorm(width)

    def forward(  # type: ignore[override]  # one argument more
        self, fused: Tensor, ppg: Tensor, emotional: Tensor, lengths: Tensor
    ) -> Tensor:
        """Attend across the frames of each utterance.

        Arguments
        ---------
        fused : torch.Tensor
            [B, T, H].
        ppg, emotional, lengths
            As of ``Fusion.forward``.

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


class CMAFirst(Fusion):
    """Concatenation → CMA → MMF of the PPG and CMA's output.

    The other order of the same two modules: it replaces ``mmf``, and ``cma``
    is null. Arguments as of ``Fusion``.

    Example
    -------
    >>> fusion = CMAFirst(n_tokens=5, d_model=8, width=12)
    >>> ppg = torch.randn(2, 7, 5).log_softmax(-1)
    >>> fusion(ppg, torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 12])
    """

    def __init__(
        self, n_tokens: int, d_model: int, width: int, dropout: float = 0.1
    ):
        super().__init__()
        self.join = Concatenation(n_tokens, d_model, width, dropout)
        self.cma = CMA(n_tokens, d_model, width, dropout=dropout)
        self.mmf = MMF(n_tokens, width, width, dropout)

    def forward(
        self, ppg: Tensor, emotional: Tensor, lengths: Tensor
    ) -> Tensor:
        """Fuse frames; see ``Fusion.forward``."""
        joined = self.join(ppg, emotional, lengths)
        attended = self.cma(joined, ppg, emotional, lengths)
        return self.mmf(ppg, attended, lengths)


FUSIONS = {
    "MMF": MMF,
    "CMA": CMA,
    "CMAFirst": CMAFirst,
    "Concatenation": Concatenation,
    "Projection": Projection,
}

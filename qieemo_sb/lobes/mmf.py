"""MMF, multimodal fusion: what is said and how it is said, frame by frame.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

from qieemo_sb.lobes.dropout import Dropout
from qieemo_sb.rebuild import Rebuildable


class MMF(Rebuildable):
    r"""Gated fusion of two aligned streams.

    With :math:`\pi_t` the token posteriors and :math:`x_t` the emotional
    features of frame t:

    .. math::

        p_t &= \mathrm{LN}(W_p \pi_t), \quad e_t = \mathrm{LN}(W_e x_t) \\
        g_t &= \sigma(W_g [p_t; e_t] + b_g) \\
        m_t &= g_t \odot p_t + (1 - g_t) \odot e_t \\
        f_t &= \mathrm{LN}(e_t + \mathrm{Dropout}(W_o\,\mathrm{GELU}(m_t)))

    The gate lets each channel of each frame choose between the streams; the
    residual path keeps the emotional one, which is the better of the two.
    This is our reading of the abstract of arXiv 2503.22687, which names the
    module and gives no formula.

    Arguments
    ---------
    n_tokens : int
        V of the PPG.
    d_model : int
        D of the emotional features.
    width : int
        H of the result.
    dropout : float
        On the inputs and on the residual branch.

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
        self.width = width
        self.dropout = Dropout(dropout)
        self.from_ppg = torch.nn.Linear(n_tokens, width)
        self.from_emotional = torch.nn.Linear(d_model, width)
        self.ppg_norm = torch.nn.LayerNorm(width)
        self.emotional_norm = torch.nn.LayerNorm(width)
        self.gate = torch.nn.Linear(2 * width, width)
        self.out = torch.nn.Linear(width, width)
        self.norm = torch.nn.LayerNorm(width)

    def forward(
        self,
        ppg: torch.Tensor,
        emotional: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Fuse frames.

        Arguments
        ---------
        ppg : torch.Tensor
            [B, T, V] log-probabilities.
        emotional : torch.Tensor
            [B, T, D].
        lengths : torch.Tensor
            [B] frames. Not used: each frame is fused by itself.

        Returns
        -------
        torch.Tensor
            [B, T, H].
        """
        p = self.ppg_norm(self.from_ppg(ppg.exp()))
        e = self.emotional_norm(self.from_emotional(self.dropout(emotional)))
        gate = torch.sigmoid(self.gate(torch.cat([p, e], dim=-1)))
        # On GPUs autocast leaves norms in float32 and linear layers not.
        mixed = torch.lerp(e, p, gate.to(e.dtype))
        mixed = self.out(torch.nn.functional.gelu(mixed))
        return self.norm(e + self.dropout(mixed))

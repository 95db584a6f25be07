"""The phonetic posteriorgram: what is said, frame by frame.

Authors
 * The Qieemo-SB authors 2026
"""

import torch

from qieemo_sb.rebuild import Rebuildable


class PPGHead(Rebuildable):
    """CTC head: LayerNorm → Linear → GELU → Linear → log-softmax.

    Arguments
    ---------
    d_model : int
        D, the encoder's width.
    n_tokens : int
        V, tokens with the CTC blank, which is token 0.
    hidden : int
        Width between the two linear layers.
    dropout : float
        Before the last layer.

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
        dropout: float = 0.1,
    ):
        super().__init__()
        self.n_tokens = n_tokens
        self.layers = torch.nn.Sequential(
            torch.nn.LayerNorm(d_model),
            torch.nn.Linear(d_model, hidden),
            torch.nn.GELU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden, n_tokens),
        )

    def forward(
        self, last_block: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Token log-probabilities of every frame.

        Arguments
        ---------
        last_block : torch.Tensor
            [B, T, D].
        lengths : torch.Tensor
            [B] frames. Not used: each frame is read by itself.

        Returns
        -------
        torch.Tensor
            [B, T, V] log-probabilities, float32.
        """
        return self.layers(last_block).float().log_softmax(dim=-1)

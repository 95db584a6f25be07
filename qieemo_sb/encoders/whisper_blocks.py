"""The parts of Whisper's encoder, under the names of its checkpoints.

Built without transformers, whose import takes longer than torch's: only who
reads a published checkpoint has to wait for it.

Authors
 * The Qieemo-SB authors 2026
"""

import math

import torch

from qieemo_sb.frames import WINDOW_FRAMES

INIT_STD = 0.02  # of fresh weights, as transformers makes them
LONGEST_WAVE = 10_000  # of the positions, in frames over 2 pi


class Attention(torch.nn.Module):
    """Projections of a self-attention.

    Arguments
    ---------
    d_model : int
        D.
    n_heads : int
        D is split among them.
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.num_heads = n_heads
        self.scaling = (d_model // n_heads) ** -0.5
        self.k_proj = torch.nn.Linear(d_model, d_model, bias=False)
        self.v_proj = torch.nn.Linear(d_model, d_model)
        self.q_proj = torch.nn.Linear(d_model, d_model)
        self.out_proj = torch.nn.Linear(d_model, d_model)


class Block(torch.nn.Module):
    """Self-attention and feed-forward network, each with its norm.

    Arguments
    ---------
    d_model : int
        D.
    n_heads : int
        Of the attention.
    ffn_dim : int
        Inner width of the feed-forward network.
    """

    def __init__(self, d_model: int, n_heads: int, ffn_dim: int):
        super().__init__()
        self.self_attn = Attention(d_model, n_heads)
        self.self_attn_layer_norm = torch.nn.LayerNorm(d_model)
        self.fc1 = torch.nn.Linear(d_model, ffn_dim)
        self.fc2 = torch.nn.Linear(ffn_dim, d_model)
        self.final_layer_norm = torch.nn.LayerNorm(d_model)


class WhisperParts(torch.nn.Module):
    """Every weight of a Whisper encoder, fresh.

    Arguments
    ---------
    n_mels : int
        Mel bands.
    d_model : int
        D.
    n_blocks : int
        Blocks.
    n_heads : int
        Heads of each block.
    ffn_dim : int
        Inner width of each block.
    """

    def __init__(
        self,
        n_mels: int,
        d_model: int,
        n_blocks: int,
        n_heads: int,
        ffn_dim: int,
    ):
        super().__init__()
        conv = torch.nn.Conv1d
        self.conv1 = conv(n_mels, d_model, kernel_size=3, padding=1)
        self.conv2 = conv(d_model, d_model, kernel_size=3, stride=2, padding=1)
        self.embed_positions = torch.nn.Embedding(WINDOW_FRAMES, d_model)
        self.layers = torch.nn.ModuleList(
            Block(d_model, n_heads, ffn_dim) for _ in range(n_blocks)
        )
        self.layer_norm = torch.nn.LayerNorm(d_model)
        self.apply(_initialise)
        self.embed_positions.weight.data = sinusoids(WINDOW_FRAMES, d_model)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Whisper's positions.

    Arguments
    ---------
    length : int
        T.
    width : int
        D, even.

    Returns
    -------
    torch.Tensor
        [T, D]: sines, then cosines, of wavelengths in geometric progression.

    Example
    -------
    >>> sinusoids(2, 4)[0]
    tensor([0., 0., 1., 1.])
    """
    step = math.log(LONGEST_WAVE) / (width // 2 - 1)
    frequencies = torch.exp(-step * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _initialise(module):
    """Draw a module's weights in transformers' order: a seed gives the same."""
    kinds = torch.nn.Linear, torch.nn.Conv1d, torch.nn.Embedding
    if isinstance(module, kinds):
        module.weight.data.normal_(std=INIT_STD)
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()

"""Whisper's encoder on the frames of the utterance.

No padding to 30 s, no cut at 30 s, and batch mates change nothing: each
utterance has its log-mel ceiling, convolutions see zeros past its end, and
attention sees no frame there.
"""

import math
import operator
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from qieemo_sb.encoders.base import SpeechEncoder, check_whole
from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import (
    MEL_HOP,
    N_FFT,
    SAMPLE_RATE,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    num_frames,
    num_mel_frames,
)
from qieemo_sb.lobes.ragged import packed_attention, unpack

INIT_STD = 0.02  # of fresh weights, as in transformers
LONGEST_WAVE = 10_000  # of the positions, in frames over 2 pi
LOG_FLOOR = 1e-10  # power below which log-mel is flat, as Whisper was trained
DYNAMIC_RANGE = 8.0  # log10 units kept below the utterance's maximum
# A smaller batch is filled up with zero frames: a product of fewer rows adds
# up in another order, and a tiny clip alone would get other numbers.
MIN_ROWS = 32
# Slaney's scale (Auditory Toolbox, 1998): linear up to 1 kHz, 200 / 3 Hz a
# mel; logarithmic above, 27 mels for a factor of 6.4.
HERTZ_PER_MEL = 200 / 3
KNEE_HERTZ = 1_000.0
KNEE_MEL = KNEE_HERTZ / HERTZ_PER_MEL  # 15
LOG_STEP = np.log(6.4) / 27
# Parts of transformers' encoder that have another name here.
RENAMED = {
    "layers": "blocks",
    "layer_norm": "norm",
    "embed_positions": "positions",
}


class WhisperEncoder(SpeechEncoder):
    """Log-mel → two convolutions → Whisper's blocks.

    Arguments
    ---------
    source : str or None
        Any Whisper: a hub id or a local folder in Hugging Face format.
    dims : dict or None
        Instead of ``source``, a shape with fresh weights: ``n_mels``,
        ``d_model``, ``n_blocks``, ``n_heads``, ``ffn_dim``.
    trainable_above : int or None
        None: frozen, run without gradients and in eval mode. 0: all trainable
        (positions never are). k: blocks k + 1 … and the final norm.
    gradient_checkpointing : bool
        Recompute blocks in the backward pass: less memory, more time.

    Raises
    ------
    QieemoError
        Neither or both of ``source`` and ``dims``; ``source`` lacks weights,
        or has another activation than GELU.

    Example
    -------
    >>> dims = dict(n_mels=80, d_model=8, n_blocks=2, n_heads=2, ffn_dim=16)
    >>> encoder = WhisperEncoder(dims=dims)
    >>> encoded = encoder(torch.randn(2, 16_000), torch.tensor([16_000, 8_000]))
    >>> encoded.hidden_states[2].shape, encoded.lengths
    (torch.Size([2, 50, 8]), tensor([50, 25]))
    """

    families = ("whisper",)

    def __init__(
        self,
        source: str | None = None,
        dims: dict[str, int] | None = None,
        trainable_above: int | None = None,
        gradient_checkpointing: bool = False,
    ):
        if (source is None) == (dims is None):
            raise QieemoError("Give WhisperEncoder either source or dims.")
        weights = None
        if dims is None:
            dims, weights = _pretrained(source)
        super().__init__(trainable_above, gradient_checkpointing)
        self.dims = self.config["dims"] = dict(dims)
        self._build(**self.dims)
        if weights is not None:
            self.load_state_dict(weights)
        parts = Block.before_attention, Block.after_attention
        self.block_parts: tuple = parts
        self.freeze()

    def encode(
        self, wavs: Tensor, samples: Tensor, blocks: Iterable[int]
    ) -> dict[int, Tensor]:
        """Hidden states of windows; see ``SpeechEncoder.encode``."""
        blocks = sorted(set(blocks))
        last, sizes = blocks[-1], num_frames(samples).tolist()
        x = self._embed(wavs, samples)  # [ΣT, D]
        total = len(x)
        packed = sizes
        if total < MIN_ROWS:
            x = F.pad(x, (0, 0, 0, MIN_ROWS - total))
            packed = [*sizes, MIN_ROWS - total]
        hidden = {0: x}
        for k, block in enumerate(self.blocks[:last], start=1):
            hidden[k] = x = self.run_block(block, x, packed, self.block_parts)
        if last == self.n_blocks:
            hidden[last] = self.norm(x)
        return {k: unpack(hidden[k][:total], sizes, max(sizes)) for k in blocks}

    def compile_blocks(self, **options) -> None:
        """Have ``torch.compile`` fuse the operations around attention.

        Compiled once for all blocks, at the first use, for any number of
        frames. Attention itself runs utterance by utterance as before.

        Arguments
        ---------
        **options
            Of ``torch.compile``, e.g. ``mode="max-autotune-no-cudagraphs"``.
        """
        self.block_parts = tuple(
            torch.compile(part, dynamic=True, **options)
            for part in (Block.before_attention, Block.after_attention)
        )

    def frozen_parts(self) -> list[nn.Module]:
        """Positions, and the parts that ``trainable_above`` freezes."""
        parts = [self.positions]
        if self.trainable_above != 0:
            parts += [self.conv1, self.conv2]
            parts += self.blocks[: self.trainable_above]
        return [*parts, self.norm] if self.frozen else parts

    def _build(self, n_mels, d_model, n_blocks, n_heads, ffn_dim):
        """Make all layers, with the fresh weights that transformers draws."""
        self.d_model, self.n_blocks = d_model, n_blocks
        self.log_mel = LogMel(n_mels)
        self.conv1 = nn.Conv1d(n_mels, d_model, 3, padding=1)
        self.conv2 = nn.Conv1d(d_model, d_model, 3, stride=2, padding=1)
        self.positions = nn.Embedding(WINDOW_FRAMES, d_model)
        self.blocks = nn.ModuleList(
            Block(d_model, n_heads, ffn_dim) for _ in range(n_blocks)
        )
        self.norm = nn.LayerNorm(d_model)
        self.apply(_initialise)
        self.positions.weight.data = _sinusoids(WINDOW_FRAMES, d_model)

    def _embed(self, wavs, samples):
        """Waveforms [N, S] → input of block 1, packed [ΣT, D].

        Row by row: a convolution over a batch rounds differently from one over
        a clip, and sees padding past its end.
        """
        mels = self.log_mel(wavs, samples)  # [N, n_mels, M]
        if self.training and self.spec_augment is not None:
            mels = self.spec_augment(mels.transpose(1, 2)).transpose(1, 2)
        sizes = num_mel_frames(samples).tolist()
        rows = []
        for mel, size in zip(mels, sizes, strict=True):
            x = F.gelu(self.conv1(mel[None, :, :size]))
            x = F.gelu(self.conv2(x))[0].T  # [T, D]
            rows.append(x + self.positions.weight[: len(x)])
        return torch.cat(rows)


class LogMel(nn.Module):
    """Whisper's log-mel spectrogram, each utterance by itself.

    Equal to transformers' ``WhisperFeatureExtractor`` on the ``S // 160``
    frames of the utterance. Always computed in float32.

    Arguments
    ---------
    n_mels : int
        Mel bands, 80 or (large-v3) 128.

    Example
    -------
    >>> LogMel()(torch.zeros(1, 16_000), torch.tensor([16_000])).shape
    torch.Size([1, 80, 100])
    """

    def __init__(self, n_mels: int = 80):
        super().__init__()
        if n_mels > N_FFT // 2 + 1:
            raise QieemoError(
                f"n_mels is {n_mels}; a spectrum has {N_FFT // 2 + 1} bins."
            )
        filters = torch.from_numpy(mel_filters(n_mels)).float()
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer(
            "window", torch.hann_window(N_FFT), persistent=False
        )

    def forward(self, wavs: Tensor, samples: Tensor) -> Tensor:
        """Log-mel of a batch.

        Arguments
        ---------
        wavs : torch.Tensor
            [N, S], zero past the lengths.
        samples : torch.Tensor
            [N] lengths.

        Returns
        -------
        torch.Tensor
            [N, n_mels, S // 160], zero past each row's frames.
        """
        # Row by row: a batch rounds differently from one row alone, and padding
        # would be transformed too.
        with torch.autocast(wavs.device.type, enabled=False):
            rows = [
                self._log_mel(wav[:size].float()).T
                for wav, size in zip(wavs, samples.tolist(), strict=True)
            ]
        return pad_sequence(rows, batch_first=True).transpose(1, 2)

    def _log_mel(self, wav):
        """One utterance [S] → [n_mels, S // 160]."""
        log_mel = (self.filters @ self._power(wav)).clamp(min=LOG_FLOOR).log10()
        log_mel = torch.maximum(log_mel, log_mel.max() - DYNAMIC_RANGE)
        return ((log_mel + 4.0) / 4.0)[:, : num_mel_frames(len(wav))]

    def _power(self, wav):
        """Power spectrum [201, M] of every window that touches speech."""
        half = N_FFT // 2
        # At 30 s the extractor stops and mirrors the end; before that it sees
        # zeros there. Two more frames than S // 160 touch the speech, and
        # count for the ceiling.
        frames = min(num_mel_frames(len(wav)) + 3, 2 * WINDOW_FRAMES)
        start, end = wav[1 : half + 1].flip(0), wav[-half - 1 : -1].flip(0)
        if len(wav) < WINDOW_SAMPLES:
            end = wav.new_zeros((frames - 1) * MEL_HOP + half - len(wav))
        spectrum = torch.stft(
            torch.cat([start, wav, end])[: (frames - 1) * MEL_HOP + N_FFT],
            N_FFT,
            MEL_HOP,
            window=self.window,
            center=False,
            return_complex=True,
        )
        return spectrum.abs().square()


class Block(nn.Module):
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
        self.self_attn_layer_norm = nn.LayerNorm(d_model)
        self.fc1 = LinearGELU(d_model, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, d_model)
        self.final_layer_norm = nn.LayerNorm(d_model)

    def forward(
        self, x: Tensor, sizes: list[int], parts: tuple | None = None
    ) -> Tensor:
        """Packed frames [ΣT, D] of ``sizes`` each → [ΣT, D].

        Same order of operations as transformers' Whisper block, without its
        dropouts, which every published Whisper sets to zero. ``parts`` may be
        ``before_attention`` and ``after_attention``, compiled.
        """
        before, after = parts or (Block.before_attention, Block.after_attention)
        queries, keys, values = before(self, x)
        heads = self.self_attn.num_heads
        attended = packed_attention(
            queries, keys, values, sizes, heads, scale=1.0
        )
        return after(self, x, attended)

    def before_attention(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[ΣT, D] → queries, keys and values."""
        attention = self.self_attn
        h = self.self_attn_layer_norm(x)
        queries = attention.q_proj(h) * attention.scaling
        return queries, attention.k_proj(h), attention.v_proj(h)

    def after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of a block, [ΣT, D] each → [ΣT, D]."""
        x = x + self.self_attn.out_proj(attended)
        return x + self.fc2(self.fc1(self.final_layer_norm(x)))


class Attention(nn.Module):
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
        self.num_heads = operator.index(n_heads)  # TypeError for fractions
        self.scaling = (d_model // n_heads) ** -0.5
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model)
        self.q_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)


class LinearGELU(nn.Linear):
    """A linear layer with an exact GELU behind it."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features]."""
        return F.gelu(super().forward(x))


def mel_filters(n_mels: int) -> np.ndarray:
    """Triangular filters, each of unit area.

    Arguments
    ---------
    n_mels : int
        Mel bands from 0 to 8 kHz.

    Returns
    -------
    np.ndarray
        [n_mels, 201] float64: weights of the bins of a power spectrum.

    Example
    -------
    >>> mel_filters(80).shape
    (80, 201)
    """
    highest = KNEE_MEL + np.log(SAMPLE_RATE / 2 / KNEE_HERTZ) / LOG_STEP
    mels = np.linspace(0.0, highest, n_mels + 2)
    above = KNEE_HERTZ * np.exp(LOG_STEP * (mels - KNEE_MEL))
    edges = np.where(mels < KNEE_MEL, HERTZ_PER_MEL * mels, above)  # [Hz]
    bins = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    widths = np.diff(edges)[:, None]
    slopes = bins - edges[:, None]  # [n_mels + 2, 201]
    rising = slopes[:-2] / widths[:-1]
    falling = -slopes[2:] / widths[1:]
    areas = (edges[2:] - edges[:-2])[:, None] / 2
    return np.maximum(0.0, np.minimum(rising, falling)) / areas


def _sinusoids(length, width):
    """Positions [length, width]: sines, then cosines.

    Their wavelengths are a geometric progression.
    """
    step = math.log(LONGEST_WAVE) / (width // 2 - 1)
    frequencies = torch.exp(-step * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _initialise(module):
    """Draw a module's weights in transformers' order: a seed gives the same."""
    kinds = nn.Linear, nn.Conv1d, nn.Embedding
    if isinstance(module, kinds):
        module.weight.data.normal_(std=INIT_STD)
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()


def _pretrained(source):
    """Dims and weights of a published Whisper's encoder, in float32."""
    from transformers import WhisperModel

    # Loading the encoder class alone from a full checkpoint silently leaves
    # random weights; an fp16 checkpoint would give an fp16 encoder.
    model, info = WhisperModel.from_pretrained(
        source,
        dtype=torch.float32,
        attn_implementation="sdpa",
        use_safetensors=True,  # no pickle
        output_loading_info=True,
    )
    missing = [k for k in info["missing_keys"] if k.startswith("encoder.")]
    check_whole(source, "Whisper", missing)
    config = model.config
    if config.activation_function != "gelu":
        raise QieemoError(
            f"'{source}' has {config.activation_function} between its linear "
            "layers; WhisperEncoder has gelu, as all published ones."
        )
    weights = {}
    for name, value in model.encoder.state_dict().items():
        part, _, rest = name.partition(".")
        weights[f"{RENAMED.get(part, part)}.{rest}"] = value
    dims = {
        "n_mels": config.num_mel_bins,
        "d_model": config.d_model,
        "n_blocks": config.encoder_layers,
        "n_heads": config.encoder_attention_heads,
        "ffn_dim": config.encoder_ffn_dim,
    }
    return dims, weights

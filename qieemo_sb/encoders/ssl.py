"""wav2vec 2.0, HuBERT, WavLM and data2vec: waveform in, blocks out.

The layers of transformers run on one utterance at a time: padding would change
a group norm over time, a convolution over positions and an attention bias.
Packing, as for Whisper, would save nothing here: most of the time goes to
convolutions of the waveform.

The convolutions see 25 ms every 20 ms, so for some lengths they give one frame
fewer than ``frames.num_frames``. The last frame is then repeated: every frame
has the numbers of the published model and the place that Whisper's have.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qieemo_sb.encoders.base import SpeechEncoder, check_whole
from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import SAMPLE_RATE, num_frames

# transformers is imported where it is used: it takes longer than torch.
FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
CLOCK = {  # 25 ms every 20 ms, as all published ones
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}
# The shape of a model, by the names of transformers' configurations.
SHAPE = (
    "hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act layer_norm_eps do_stable_layer_norm conv_dim conv_bias "
    "feat_extract_norm feat_extract_activation feat_proj_layer_norm "
    "num_conv_pos_embeddings num_conv_pos_embedding_groups "
    "conv_pos_kernel_size conv_pos_batch_norm adapter_attn_dim num_buckets "
    "max_bucket_distance"
).split()
# Not used here, so a checkpoint need not have their weights: masking is left
# to the trainer, and an adapter above the blocks has other frames.
OFF = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "add_adapter": False}
EPSILON = 1e-7  # of the variance of a waveform, as in transformers


class SSLEncoder(SpeechEncoder):
    """Convolutions of the waveform → positions → transformers' blocks.

    Arguments
    ---------
    source : str or None
        A wav2vec 2.0, HuBERT, WavLM or data2vec-audio: a hub id or a local
        folder in Hugging Face format.
    dims : dict or None
        Instead of ``source``, a shape with fresh weights: ``family`` (one of
        ``FAMILIES``), ``normalise`` (true: each utterance is brought to zero
        mean and unit variance) and any of ``SHAPE``, with the defaults of
        transformers.
    trainable_above : int or None
        None: frozen and in eval mode. 0: all trainable but the convolutions of
        the waveform, as in the papers' fine-tuning. k: blocks k + 1 … and the
        final norm, if there is one.
    gradient_checkpointing : bool
        Recompute blocks in the backward pass: less memory, more time.

    Raises
    ------
    QieemoError
        Both or neither of ``source`` and ``dims`` are given, or the checkpoint
        is another model, lacks weights, or does not tell if its input is
        normalised.

    Example
    -------
    >>> encoder = SSLEncoder(
    ...     dims=dict(
    ...         family="hubert",
    ...         normalise=True,
    ...         hidden_size=8,
    ...         num_hidden_layers=2,
    ...         num_attention_heads=2,
    ...         intermediate_size=16,
    ...         conv_dim=[4] * 7,
    ...         num_conv_pos_embedding_groups=2,
    ...     )
    ... )
    >>> wavs, lengths = torch.randn(2, 16_000), torch.tensor([16_000, 8_000])
    >>> encoded = encoder(wavs, lengths)
    >>> encoded.hidden_states[2].shape, encoded.lengths
    (torch.Size([2, 50, 8]), tensor([50, 25]))
    """

    families = FAMILIES

    def __init__(
        self,
        source: str | None = None,
        dims: dict | None = None,
        trainable_above: int | None = None,
        gradient_checkpointing: bool = False,
    ):
        super().__init__(trainable_above, gradient_checkpointing)
        if (source is None) == (dims is None):
            raise QieemoError("SSLEncoder needs either source or dims.")
        if source is not None:
            model, normalise = _pretrained(source)
        else:
            model, normalise = _untrained(dims)
        self.dims = self.config["dims"] = _dims(model.config, normalise)
        self.d_model = model.config.hidden_size
        self.n_blocks = model.config.num_hidden_layers
        self.convolutions = model.feature_extractor.conv_layers
        self.projection = model.feature_projection
        self.positions = model.encoder.pos_conv_embed
        self.norm = model.encoder.layer_norm
        self.dropout = model.encoder.dropout
        self.blocks = model.encoder.layers
        self.freeze()

    @property
    def norm_is_last(self) -> bool:
        """True if the norm stands after the blocks, False if before them."""
        return self.dims.get("do_stable_layer_norm", False)

    def frozen_parts(self) -> list[nn.Module]:
        """Convolutions, and the parts that ``trainable_above`` freezes."""
        parts = [self.convolutions]
        if self.trainable_above != 0:
            parts += [self.projection, self.positions, self.dropout]
            parts += self.blocks[: self.trainable_above]
            parts += [] if self.norm_is_last else [self.norm]
        return [*parts, self.blocks, self.norm] if self.frozen else parts

    def encode(
        self, wavs: Tensor, samples: Tensor, blocks: Iterable[int]
    ) -> dict[int, Tensor]:
        """Hidden states of windows; see ``SpeechEncoder.encode``."""
        blocks = sorted(set(blocks))
        rows = [
            self._encode_one(wav[:size], blocks)
            for wav, size in zip(wavs, samples.tolist(), strict=True)
        ]
        pad = torch.nn.utils.rnn.pad_sequence
        return {k: pad([row[k] for row in rows], True) for k in blocks}

    def _encode_one(self, wav, blocks):
        """An utterance [S] → {block: [T, D]}."""
        last = max(blocks)
        x = self._embed(wav)  # [1, T', D]
        hidden = {0: x}
        # Only WavLM has a bias, which its first block makes for the others.
        options = {"position_bias": None}
        options = options if self.dims["family"] == "wavlm" else {}
        for k, block in enumerate(self.blocks[:last], start=1):
            out = self.run_block(block, x, **options)
            hidden[k] = x = _first(out)
            options = {"position_bias": out[1]} if options else {}
        if last == self.n_blocks and self.norm_is_last:
            hidden[last] = self.norm(x)
        frames = num_frames(len(wav))
        return {k: _on_the_clock(hidden[k], frames) for k in blocks}

    def _embed(self, wav):
        """Samples [S] → input of block 1, [1, T', D]."""
        x = wav.float()
        if self.dims["normalise"]:
            x = (x - x.mean()) / (x.var(correction=0) + EPSILON).sqrt()
        x = x[None, None]  # [1, 1, S]
        for layer in self.convolutions:
            x = layer(x)
        x = _first(self.projection(x.transpose(1, 2)))
        if self.training and self.spec_augment is not None:
            x = self.spec_augment(x)
        x = x + self.positions(x)
        return self.dropout(x if self.norm_is_last else self.norm(x))


def _first(out):
    """The tensor of a layer's output, which may be a tuple."""
    return out[0] if isinstance(out, tuple) else out


def _on_the_clock(x, frames):
    """[1, T or T - 1, D] → [T, D]; the last frame may be repeated."""
    return torch.cat([x, x[:, -1:]], dim=1)[0, :frames]


def _pretrained(source):
    """A model with the weights of ``source`` in float32, and ``normalise``."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(source)
    if config.model_type not in FAMILIES:
        raise QieemoError(
            f"'{source}' is of the family '{config.model_type}'; SSLEncoder "
            f"runs {', '.join(FAMILIES)}."
        )
    for name, expected in CLOCK.items():
        if list(getattr(config, name)) != expected:
            raise QieemoError(
                f"'{source}' has {name} {list(getattr(config, name))} where "
                f"{expected} is needed: its frames are not 20 ms."
            )
    config.update(OFF)
    # Some checkpoints, such as WavLM's, are only published as a pickle: torch
    # loads nothing but tensors from it.
    model, info = AutoModel.from_pretrained(
        source,
        config=config,
        dtype=torch.float32,
        weights_only=True,
        output_loading_info=True,
    )
    check_whole(source, config.model_type, info["missing_keys"])
    return model, _normalises(source)


def _normalises(source):
    """True if a checkpoint needs input of zero mean and unit variance."""
    from transformers import Wav2Vec2FeatureExtractor

    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(source)
    except OSError as error:
        raise QieemoError(
            f"'{source}' has no preprocessor_config.json, so it is unknown if "
            "its input is normalised. Copy that of the checkpoint that it was "
            "made from."
        ) from error
    if extractor.sampling_rate != SAMPLE_RATE:
        raise QieemoError(
            f"'{source}' was trained at {extractor.sampling_rate} Hz, not "
            f"{SAMPLE_RATE}."
        )
    return bool(extractor.do_normalize)


def _untrained(dims):
    """A model of a given shape with fresh weights, and ``normalise``."""
    # A model folder may come from anywhere: pass on known names only.
    unknown = sorted(set(dims) - {"family", "normalise", *SHAPE})
    if unknown:
        raise QieemoError(
            f"dims has {unknown}; known are family, normalise, "
            f"{', '.join(SHAPE)}."
        )
    family = dims.get("family")
    if family not in FAMILIES or not isinstance(dims.get("normalise"), bool):
        raise QieemoError(
            f"dims needs family (one of {', '.join(FAMILIES)}) and normalise "
            f"(true or false), not {family!r} and {dims.get('normalise')!r}."
        )
    from transformers import AutoConfig, AutoModel

    shape = {k: v for k, v in dims.items() if k in SHAPE}
    try:
        config = AutoConfig.for_model(family, **shape, **CLOCK, **OFF)
        return AutoModel.from_config(config), dims["normalise"]
    except Exception as error:  # transformers has many kinds for wrong values
        raise QieemoError(f"dims make no {family}: {error}") from error


def _dims(config, normalise):
    """Plain values that ``_untrained`` makes the same shape of."""
    # A config.json may have more entries than its family uses.
    known = [k for k in SHAPE if hasattr(type(config)(), k)]
    shape = {k: getattr(config, k) for k in known}
    shape["conv_dim"] = list(config.conv_dim)
    return {"family": config.model_type, "normalise": normalise, **shape}

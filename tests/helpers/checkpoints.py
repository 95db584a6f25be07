"""Small Whisper, wav2vec 2.0 and relatives, as transformers makes them."""

import json

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCTC,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperModel,
)

from qieemo_sb.encoders.ssl import SSLEncoder
from qieemo_sb.encoders.whisper import WhisperEncoder

D_MODEL, N_BLOCKS = 16, 3
SMALL = {
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_BLOCKS,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [6] * 7,
    "num_conv_pos_embedding_groups": 2,
}
BASE = {"feat_extract_norm": "group", "num_conv_pos_embeddings": 8}
LARGE = {
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 7,
    "conv_bias": True,
    "do_stable_layer_norm": True,
}
# Name → family and what its published checkpoints have.
VARIANTS = {
    "wav2vec2-base": ("wav2vec2", BASE),
    "wav2vec2-large": ("wav2vec2", LARGE),
    "wav2vec2-mms": ("wav2vec2", {**LARGE, "adapter_attn_dim": 4}),
    "hubert-base": ("hubert", BASE),
    "hubert-large": ("hubert", LARGE),
    "hubert-batch-norm": (
        "hubert",
        {**BASE, "conv_pos_batch_norm": True, "feat_proj_layer_norm": False},
    ),
    "wavlm-base": ("wavlm", {**BASE, "num_buckets": 40}),
    "wavlm-large": (
        "wavlm",
        {**LARGE, "num_buckets": 16, "max_bucket_distance": 30},
    ),
    "data2vec": ("data2vec-audio", {"conv_pos_kernel_size": 5}),
}
LETTERS = "ETAONIHSRDLUMWCFGYPBVK'XJQZ"  # as published English heads have them
ENGLISH = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS]


def make_whisper(**options):
    """A Whisper of two blocks with fresh weights."""
    sizes = {
        "vocab_size": 50,
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 8,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "decoder_start_token_id": 1,
    }
    return WhisperModel(WhisperConfig(**{**sizes, **options}))


def make_model(variant, ctc=False, **options):
    """A model with weights of its own, in eval mode."""
    family, shape = VARIANTS[variant]
    config = AutoConfig.for_model(family, **{**SMALL, **shape, **options})
    torch.manual_seed(0)
    kind = AutoModelForCTC if ctc else AutoModel
    model = kind.from_config(config).eval()
    for name, parameter in model.named_parameters():
        # Fresh weights are too small to disagree, and fresh biases zero.
        if name.endswith("bias"):
            parameter.data.normal_(std=0.3)
        elif parameter.dim() > 1:
            parameter.data *= 2
    return model


def fresh_encoder(variant, **options):
    """Our encoder with fresh weights, of a variant or of "whisper"."""
    torch.manual_seed(0)
    if variant == "whisper":
        sizes = {"d_model": D_MODEL, "n_blocks": N_BLOCKS, "ffn_dim": 32}
        dims = {"n_mels": 80, "n_heads": 2, **sizes}
        return WhisperEncoder(dims=dims, **options)
    family, shape = VARIANTS[variant]
    dims = {"family": family, "normalise": True, **SMALL, **shape}
    return SSLEncoder(dims=dims, **options)


def names_where(encoder, condition):
    """Names of the parameters that meet a condition."""
    return {n for n, p in encoder.named_parameters() if condition(p)}


def train_once(encoder, wavs):
    """Compute gradients → names of the parameters that got one."""
    encoder.train()
    hidden = encoder(wavs).hidden_states.values()
    sum(h.square().mean() for h in hidden if h.requires_grad).backward()
    return names_where(encoder, lambda p: p.grad is not None)


def save(model, folder, normalise=True, rate=16_000):
    """Write a model as a folder that says how its input is made."""
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        do_normalize=normalise, sampling_rate=rate
    ).save_pretrained(folder)
    return str(folder)


def save_vocabulary(folder, tokens, **options):
    """Write the tokens of a CTC head, row by row."""
    vocabulary = {token: row for row, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    options["tokenizer_class"] = "Wav2Vec2CTCTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(options))

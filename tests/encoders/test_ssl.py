"""wav2vec 2.0 and its relatives: transformers' numbers, our frames."""

import json

import checkpoints
import pytest
import torch
from checkpoints import fresh_encoder, names_where, train_once
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor, WhisperConfig

from qieemo_sb.encoders.ssl import SSLEncoder
from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import num_frames
from qieemo_sb.training.cache import EncoderCache

SECONDS = 16_000
RAW = {"hubert-large", "wavlm-base", "data2vec"}  # input is not normalised

every_variant = pytest.mark.parametrize("variant", checkpoints.VARIANTS)
base_and_large = pytest.mark.parametrize(
    "variant", ["wav2vec2-base", "wavlm-base", "wavlm-large", "hubert-large"]
)


@pytest.fixture(scope="module")
def published():
    """A small model by name, as transformers makes it."""
    models = {}

    def get(variant):
        if variant not in models:
            models[variant] = checkpoints.make_model(variant)
        return models[variant]

    return get


@pytest.fixture(scope="module")
def source(published, tmp_path_factory):
    """Its folder."""
    folders = {}

    def get(variant):
        if variant not in folders:
            folders[variant] = checkpoints.save(
                published(variant),
                tmp_path_factory.mktemp(variant),
                normalise=variant not in RAW,
            )
        return folders[variant]

    return get


@pytest.fixture(scope="module")
def encoder(source):
    """Our encoder of it, frozen."""
    encoders = {}

    def get(variant):
        if variant not in encoders:
            encoders[variant] = SSLEncoder(source=source(variant)).eval()
        return encoders[variant]

    return get


def distance(a, b):
    return (a - b).abs().max().item()


def transformers_blocks(model, source, signal):
    """{k: [T', D]} of one clip by transformers alone."""
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(source)
    values = extractor(
        signal.numpy(), sampling_rate=16_000, return_tensors="pt"
    )["input_values"]
    seen, layers = [], model.encoder.layers

    def keep(x):
        seen.append(x[0] if isinstance(x, tuple) else x)

    handles = [layers[0].register_forward_pre_hook(lambda _, x: keep(x))]
    handles += [m.register_forward_hook(lambda *x: keep(x[-1])) for m in layers]
    with torch.no_grad():
        last = model(values).last_hidden_state
    for handle in handles:
        handle.remove()
    return {k: x[0] for k, x in enumerate([*seen[:-1], last])}


# Blocks


@every_variant
@pytest.mark.parametrize(
    "samples, theirs, ours",
    # A clip has a 25 ms frame every 20 ms, and a frame every 20 ms begun.
    [(400, 1, 1), (5_760, 17, 18), (16_000, 49, 50), (16_080, 50, 50)],
)
def test_blocks_equal_transformers(
    sound, published, source, encoder, variant, samples, theirs, ours
):
    signal = 3 * sound(samples) + 0.1
    expected = transformers_blocks(published(variant), source(variant), signal)
    encoded = encoder(variant)(signal[None])
    assert encoded.lengths.tolist() == [ours]
    assert encoded.hidden_states.keys() == expected.keys() == {0, 1, 2, 3}
    for k, (hidden,) in encoded.hidden_states.items():
        assert expected[k].shape == (theirs, 16)
        # transformers normalises with numpy, which rounds otherwise.
        assert (
            distance(hidden[:theirs], expected[k]) < 1e-5 * hidden.abs().max()
        )
        assert torch.equal(hidden[theirs - 1], hidden[-1])


@every_variant
def test_blocks_are_no_trifle(sound, encoder, variant):
    hidden = encoder(variant)(sound(SECONDS)[None]).hidden_states
    for k, x in hidden.items():
        assert x[0].std(dim=0).max() > 0.05, k


@pytest.mark.parametrize("normalise", [True, False])
def test_loudness_matters_only_to_raw_input(sound, normalise):
    encoder = fresh_encoder("wav2vec2-large")
    encoder.dims["normalise"] = normalise
    signal = sound(SECONDS)
    quiet, loud = (encoder(gain * signal[None]) for gain in (1.0, 5.0))
    far = distance(quiet.hidden_states[1], loud.hidden_states[1])
    assert (far < 1e-4) == normalise


@every_variant
def test_silence(encoder, variant):
    hidden = encoder(variant)(torch.zeros(1, SECONDS)).hidden_states
    assert all(h.isfinite().all() for h in hidden.values())


def test_shapes_and_lengths(sound, pad, encoder):
    signals = [sound(16_000), sound(400), sound(8_160)]
    encoded = encoder("hubert-base")(*pad(signals))
    assert encoded.lengths.tolist() == [50, 1, 26]
    for hidden in encoded.hidden_states.values():
        assert hidden.shape == (3, 50, 16)


@base_and_large
@pytest.mark.parametrize("blocks, runs", [([0], 0), ([2, 1], 2), ([3], 3)])
def test_blocks_above_the_highest_are_not_run(sound, variant, blocks, runs):
    encoder, ran = fresh_encoder(variant), []
    every = encoder(sound(SECONDS)[None]).hidden_states
    for block in encoder.blocks:
        block.register_forward_hook(lambda *_: ran.append(1))
    some = encoder(sound(SECONDS)[None], blocks=blocks).hidden_states
    assert len(ran) == runs
    assert some.keys() == set(blocks)
    assert all(torch.equal(x, every[k]) for k, x in some.items())


@every_variant
def test_autocast(sound, encoder, variant):
    signal = sound(SECONDS)[None]
    full = encoder(variant)(signal).hidden_states[3]
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder(variant)(signal).hidden_states[3]
        encoder(variant)(signal.bfloat16())
    assert distance(half, full) < 0.1 * full.abs().max()


# One utterance, whatever stands beside it


@every_variant
@pytest.mark.parametrize("samples", [400, 5_555, 16_000])
def test_alone_and_in_company(sound, in_company, encoder, variant, samples):
    signal = sound(samples, gain=0.01)
    alone = encoder(variant)(signal[None])
    company = encoder(variant)(*in_company(signal))
    frames = num_frames(samples)
    assert company.lengths[0] == alone.lengths[0] == frames
    for k, hidden in company.hidden_states.items():
        assert torch.equal(hidden[0, :frames], alone.hidden_states[k][0])
        assert not hidden[0, frames:].any()


@pytest.mark.parametrize("garbage", [1e4, torch.nan])
def test_what_lies_past_the_end_changes_nothing(sound, pad, encoder, garbage):
    wavs, lengths = pad([sound(16_000), sound(9_000)])
    clean = encoder("wavlm-base")(wavs, lengths).hidden_states[3]
    wavs[1, 9_000:] = garbage
    dirty = encoder("wavlm-base")(wavs, lengths).hidden_states[3]
    assert torch.equal(dirty, clean)


def test_forty_seconds_are_twice_twenty(sound, encoder):
    signal = sound(640_000)
    encoded = encoder("wavlm-large")(signal[None], blocks=[3])
    assert encoded.lengths.tolist() == [2_000]
    halves = [
        encoder("wavlm-large")(half[None], blocks=[3]).hidden_states[3][0]
        for half in signal.split(320_000)
    ]
    assert torch.equal(encoded.hidden_states[3][0], torch.cat(halves))


# Weights


def test_checkpoint_of_half_precision_becomes_float32(sound, tmp_path):
    model = checkpoints.make_model("hubert-base").half()
    encoder = SSLEncoder(source=checkpoints.save(model, tmp_path))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    hidden = encoder(sound(SECONDS)[None], blocks=[3]).hidden_states[3]
    assert hidden.dtype == torch.float32


@pytest.mark.parametrize("variant", ["wav2vec2-base", "wavlm-large"])
def test_published_pickle_of_old_names(
    sound, published, source, encoder, variant, tmp_path
):
    folder = checkpoints.save(published(variant), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in published(variant).state_dict().items()
    }
    assert any(name.endswith("conv.weight_g") for name in renamed)
    torch.save(renamed, tmp_path / "pytorch_model.bin")
    old = SSLEncoder(source=folder).eval().state_dict()
    for name, value in encoder(variant).state_dict().items():
        assert torch.equal(old[name], value), name


class Canary:
    """A pickle of it would raise where it is read."""

    def __reduce__(self):
        return pytest.fail, ("The pickle's own code was run.",)


def test_pickle_cannot_run_code(tmp_path):
    model = checkpoints.make_model("hubert-base")
    folder = checkpoints.save(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    weights = {**model.state_dict(), "canary": Canary()}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match="(?i)weights.only"):
        SSLEncoder(source=folder)


@pytest.mark.parametrize(
    "variant", ["wav2vec2-base", "hubert-large", "wavlm-base", "data2vec"]
)
def test_body_of_a_model_with_a_head(sound, variant, tmp_path):
    model = checkpoints.make_model(variant, ctc=True)
    body = getattr(model, model.base_model_prefix)
    folder = checkpoints.save(model, tmp_path)
    expected = transformers_blocks(body, folder, sound(SECONDS))
    hidden = SSLEncoder(source=folder)(sound(SECONDS)[None]).hidden_states
    assert distance(hidden[3][0, :49], expected[3]) < 1e-5


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layers.1.attention.k_proj.weight",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        "feature_extractor.conv_layers.6.conv.weight",
        "encoder.layer_norm.bias",
    ],
)
def test_missing_weights_are_an_error(tmp_path, name):
    model = checkpoints.make_model("wav2vec2-base")
    folder = checkpoints.save(model, tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    del weights[name]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(QieemoError, match=f"no whole wav2vec2.*1.*{name}") as e:
        SSLEncoder(source=folder)
    assert f"'{folder}'" in str(e.value)


def test_missing_weights_of_what_is_not_run(tmp_path):
    # wav2vec2-base-960h was tuned with masking and published without.
    model = checkpoints.make_model(
        "wav2vec2-base", mask_time_prob=0.1, add_adapter=True
    )
    folder = checkpoints.save(model, tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    assert weights.pop("masked_spec_embed").shape == (16,)
    weights = {k: v for k, v in weights.items() if "adapter" not in k}
    save_file(weights, path, {"format": "pt"})
    assert SSLEncoder(source=folder).n_blocks == 3


def test_switch_that_the_family_does_not_know(
    sound, published, encoder, tmp_path
):
    folder = checkpoints.save(published("data2vec"), tmp_path, normalise=False)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | {"do_stable_layer_norm": True}
    path.write_text(json.dumps(config))
    stray = SSLEncoder(source=folder)
    assert stray.dims == encoder("data2vec").dims
    wavs = sound(SECONDS)[None]
    expected = encoder("data2vec")(wavs).hidden_states[3]
    assert torch.equal(stray(wavs).hidden_states[3], expected)


def test_checkpoint_that_does_not_say_how_its_input_is_made(tmp_path):
    checkpoints.make_model("hubert-base").save_pretrained(tmp_path)
    with pytest.raises(QieemoError, match="no preprocessor_config.json.*Copy"):
        SSLEncoder(source=str(tmp_path))


def test_checkpoint_of_another_rate(tmp_path):
    model = checkpoints.make_model("hubert-base")
    folder = checkpoints.save(model, tmp_path, rate=8_000)
    with pytest.raises(QieemoError, match="trained at 8000 Hz, not 16000"):
        SSLEncoder(source=folder)


def test_checkpoint_of_another_clock(tmp_path):
    model = checkpoints.make_model(
        "hubert-base", conv_stride=[5, 2, 2, 2, 2, 2, 1]
    )
    folder = checkpoints.save(model, tmp_path)
    with pytest.raises(QieemoError, match="conv_stride.*frames are not 20 ms"):
        SSLEncoder(source=folder)


def test_checkpoint_of_another_family(tmp_path):
    WhisperConfig().save_pretrained(tmp_path)
    with pytest.raises(QieemoError, match="of the family 'whisper'; SSLEnc"):
        SSLEncoder(source=str(tmp_path))


@pytest.mark.parametrize("both", [True, False])
def test_either_source_or_dims(source, encoder, both):
    arguments = {}
    if both:
        arguments["source"] = source("hubert-base")
        arguments["dims"] = encoder("hubert-base").dims
    with pytest.raises(QieemoError, match="either source or dims"):
        SSLEncoder(**arguments)


@every_variant
def test_dims_of_a_source_build_the_same_shape(sound, encoder, variant):
    config = encoder(variant).config
    assert list(config) == ["dims"]
    assert json.loads(json.dumps(config)) == config  # plain values only
    again = SSLEncoder(**config).eval()
    again.load_state_dict(encoder(variant).state_dict())
    assert again.config == config
    wavs = sound(SECONDS)[None]
    assert torch.equal(
        again(wavs).hidden_states[3], encoder(variant)(wavs).hidden_states[3]
    )


def test_dims_say_what_the_input_is(encoder):
    dims = encoder("wavlm-base").dims
    assert (dims["family"], dims["normalise"]) == ("wavlm", False)
    assert encoder("wavlm-large").dims["normalise"] is True
    assert (dims["hidden_size"], dims["num_buckets"]) == (16, 40)


@pytest.mark.parametrize(
    "name", ["_attn_implementation", "mask_time_prob", "conv_stride", "source"]
)
def test_dims_of_other_names(name):
    dims = {"family": "hubert", "normalise": True, name: "x"}
    with pytest.raises(QieemoError, match=rf"dims has \['{name}'\]"):
        SSLEncoder(dims=dims)


@pytest.mark.parametrize(
    "dims",
    [
        {},
        {"family": "hubert"},
        {"family": "whisper", "normalise": True},
        {"family": "hubert", "normalise": "yes"},
    ],
)
def test_dims_that_do_not_say_enough(dims):
    with pytest.raises(QieemoError, match="needs family.*and normalise"):
        SSLEncoder(dims=dims)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": "x"},
        {"hidden_act": "nope"},
        {"conv_dim": [4]},
        {"num_attention_heads": 5},
        {"intermediate_size": -1},
    ],
)
def test_dims_that_make_no_model(wrong):
    dims = {"family": "hubert", "normalise": True, **checkpoints.SMALL}
    with pytest.raises(QieemoError, match="dims make no hubert"):
        SSLEncoder(dims={**dims, **wrong})


# Training


@every_variant
def test_all_trains_but_the_convolutions_of_the_waveform(sound, variant):
    encoder = fresh_encoder(variant, trainable_above=0)
    expected = {
        name
        for name, _ in encoder.named_parameters()
        if not name.startswith("convolutions.")
    }
    assert names_where(encoder, lambda p: p.requires_grad) == expected
    assert train_once(encoder, sound(SECONDS)[None]) == expected
    assert not encoder.convolutions.training
    assert encoder.positions.training


def test_dropout_is_for_blocks_that_train(sound):
    encoder = fresh_encoder("wav2vec2-base", trainable_above=1)
    wavs = sound(SECONDS)[None]
    frozen = encoder.eval()(wavs).hidden_states
    trained = encoder.train()(wavs).hidden_states
    for k in range(4):
        assert torch.equal(frozen[k], trained[k]) == (k <= 1)


def test_masking_and_layer_drop_of_the_checkpoint_are_off(sound, tmp_path):
    names = ("hidden", "activation", "attention", "feat_proj")
    model = checkpoints.make_model(
        "wav2vec2-base",
        mask_time_prob=0.9,
        mask_feature_prob=0.9,
        layerdrop=0.9,
        **{f"{name}_dropout": 0.0 for name in names},
    )
    folder = checkpoints.save(model, tmp_path)
    encoder = SSLEncoder(source=folder, trainable_above=0)
    wavs = sound(SECONDS)[None]
    expected = encoder.eval()(wavs).hidden_states[3]
    assert torch.equal(encoder.train()(wavs).hidden_states[3], expected)


def test_spec_augment_is_for_training_only(sound, pad):
    encoder, seen = fresh_encoder("hubert-large"), []
    wavs, lengths = pad([sound(8_000), sound(5_000)])
    plain = encoder.eval()(wavs, lengths).hidden_states[3]

    def augment(features):
        seen.append(features.shape)
        return features + 1.0

    encoder.spec_augment = augment
    assert torch.equal(encoder(wavs, lengths).hidden_states[3], plain)
    assert seen == []
    augmented = encoder.train()(wavs, lengths).hidden_states[3]
    assert seen == [(1, 24, 16), (1, 15, 16)]
    assert distance(augmented, plain) > 1e-3


# In the cache


@pytest.mark.parametrize("samples", [16_000, 500_000])
def test_cached_frames_are_exactly_the_encoders(
    sound, write_wav, encoder, tmp_path, samples
):
    signal = sound(samples)
    wav, ssl = write_wav(signal), encoder("wavlm-base")
    cache = EncoderCache(tmp_path / "cache", ssl, [1, 3])
    assert cache.fill([wav]) == 1
    hidden = ssl(signal[None], blocks=[1, 3]).hidden_states
    frames = cache.load(wav)
    assert frames.shape == (num_frames(samples), 2, 16)
    assert torch.equal(frames[:, 0], hidden[1][0])
    assert torch.equal(frames[:, 1], hidden[3][0])


def test_cache_depends_on_the_normalisation_of_the_input(tmp_path):
    encoder = fresh_encoder("wavlm-base")
    before = EncoderCache(tmp_path, encoder, [1]).folder
    assert (
        EncoderCache(tmp_path, fresh_encoder("wavlm-base"), [1]).folder
        == before
    )
    encoder.dims["normalise"] = False
    assert EncoderCache(tmp_path, encoder, [1]).folder != before

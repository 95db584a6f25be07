"""Models: parts that fit, and utterances that change nothing for another."""

import pytest
import torch

from qieemo_sb.encoders.base import EncoderOutput
from qieemo_sb.errors import ModelFolderError, QieemoError
from qieemo_sb.frames import num_frames, sample_windows
from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.fusion import CMA, MMF, CMAFirst, Concatenation
from qieemo_sb.lobes.pooling import (
    AttentiveStatisticsPooling,
    AveragePooling,
    BlockStatistics,
)
from qieemo_sb.lobes.ppg import PPGHead, PretrainedPPGHead
from qieemo_sb.lobes.speaker import SpeakerModel
from qieemo_sb.model import PPGModel, build_model

LONG = 70 * 16_000  # three windows


@pytest.fixture
def model(variant_model):
    return variant_model


@pytest.fixture
def ppg_model(make_encoder):
    torch.manual_seed(0)
    return PPGModel(make_encoder(), PPGHead(16, 29, hidden=8)).eval()


def close(a, b, tolerance=1e-4):
    return a.shape == b.shape and (a - b).abs().max() < tolerance


# Outputs


def test_shapes_and_distributions(model, sound, pad):
    out = model(*pad([sound(16_000), sound(8_160)]))
    assert out.lengths.tolist() == [50, 26]
    assert out.log_probs.shape == (2, 4)
    assert out.embedding.shape == (2, model.classifier.width)
    assert out.frame_log_probs.shape == (2, 50, 4)
    assert close(out.log_probs.exp().sum(-1), torch.ones(2), 1e-5)
    frames = out.frame_log_probs.exp().sum(-1)
    assert close(frames, torch.ones(2, 50), 1e-5)
    if model.ppg_head is None:
        assert out.ppg is None
    else:
        assert out.ppg.shape == (2, 50, 29)


@pytest.mark.parametrize("samples", [400, 9_999])
def test_batch_mates_and_order_change_nothing(
    model, sound, in_company, samples
):
    signal = sound(samples, gain=0.01)
    wavs, lengths = in_company(signal)
    alone, company = model(signal[None]), model(wavs, lengths)
    frames = int(alone.lengths[0])
    assert company.lengths[0] == frames
    assert close(company.log_probs[:1], alone.log_probs)
    assert close(company.embedding[:1], alone.embedding)
    assert close(company.frame_log_probs[:1, :frames], alone.frame_log_probs)
    if alone.ppg is not None:
        assert close(company.ppg[:1, :frames], alone.ppg)
    assert len(company.log_probs.unique(dim=0)) == 8  # and all differ
    order = [3, 1, 0, 7, 2, 6, 5, 4]
    shuffled = model(wavs[order], lengths[order])
    assert close(shuffled.log_probs, company.log_probs[order])
    assert close(shuffled.frame_log_probs, company.frame_log_probs[order])


def test_padding_changes_nothing(variants, sound):
    model, signal = variants["whole"], sound(16_000)
    padded = torch.nn.functional.pad(signal, (0, 700_000), value=torch.nan)
    expected = model(signal[None])
    found = model(padded[None], torch.tensor([16_000]))
    assert torch.equal(found.log_probs, expected.log_probs)
    assert torch.equal(found.frame_log_probs, expected.frame_log_probs)


def test_every_way_to_give_a_long_clip(model, sound, pad):
    """Alone, in a batch, window by window, and from encoder outputs."""
    signal, short = sound(LONG, 1), sound(8_160, 2)
    alone = model(signal[None])
    assert alone.lengths.tolist() == [3_500]
    spans = sample_windows(LONG)
    streamed = model.embed(signal[a:b] for a, b in spans)
    assert len(spans) == 3
    assert torch.equal(streamed, alone.embedding)

    batch = pad([short, signal])
    company = model(*batch)
    assert close(company.embedding[1:], alone.embedding)
    assert close(company.frame_log_probs[1:], alone.frame_log_probs)
    expected = model(short[None])
    assert close(company.embedding[:1], expected.embedding)
    assert close(company.frame_log_probs[:1, :26], expected.frame_log_probs)

    encoded = model.encoder(*batch, model.blocks)
    cached = model(encoded=encoded)
    assert close(cached.embedding, company.embedding)
    assert close(cached.frame_log_probs[1], company.frame_log_probs[1])
    kept = {k: h[1:] for k, h in encoded.hidden_states.items()}
    cached = model(encoded=EncoderOutput(kept, encoded.lengths[1:]))
    assert close(cached.embedding, alone.embedding)

    # Windows are fused apart. A second's statistics reach half a second
    # over their border.
    first = model(signal[None, : spans[0][1]])
    frames = num_frames(spans[0][1])
    before = alone.frame_log_probs[:, : frames - 25]
    assert close(before, first.frame_log_probs[:, :-25])
    if alone.ppg is not None:
        assert close(alone.ppg[:, :frames], first.ppg)


def test_input_that_is_missing(variants):
    with pytest.raises(QieemoError, match="waveforms, or encoder outputs"):
        variants["whole"]()


def test_short_batch_from_encoder_outputs(model, sound, pad):
    batch = pad([sound(16_000), sound(8_160)])
    expected = model(*batch)
    cached = model(encoded=model.encoder(*batch, model.blocks))
    assert close(cached.log_probs, expected.log_probs)
    assert close(cached.frame_log_probs, expected.frame_log_probs)


def test_attention_stays_inside_its_window(make_model, sound):
    model = make_model()
    for name, parameter in model.cma.named_parameters():
        if name.endswith("weight") and parameter.dim() > 1:
            parameter.data *= 5
    # The halves differ, so that attention from one to the other would show.
    signal = torch.cat([sound(320_000, gain=1.0), torch.zeros(320_000)])
    whole, first = model(signal[None]), model(signal[None, :320_000])
    before = whole.frame_log_probs[:, : 1_000 - 25]
    assert close(before, first.frame_log_probs[:, :-25])


def test_pooled_over_all_windows(make_model, sound):
    model = make_model()
    for parameter in model.pooling.attention.parameters():
        parameter.data.zero_()  # every frame weighs the same
    signal = sound(640_000)
    halves = [model(half[None]).embedding for half in signal.split(320_000)]
    mean = (halves[0] + halves[1])[:, :12] / 2
    assert close(model(signal[None]).embedding[:, :12], mean)


def test_a_frames_emotion_depends_on_its_second_only(make_model, sound):
    # Without attention across frames, and far enough from the change.
    model = make_model(
        cma=None, ppg_head=None, mmf=None, mixer=BlockMixer([0], d_model=16)
    )
    signal = sound(64_000)
    signal[0] = 2.0  # keeps the log-mel ceiling where it is
    changed = signal.clone()
    changed[32_000:] = changed[32_000:].flip(0)
    a = model(signal[None]).frame_log_probs[0]
    b = model(changed[None]).frame_log_probs[0]
    assert close(a[:70], b[:70], 1e-5)
    assert not close(a[100:], b[100:], 1e-4)


def test_without_frame_wise_results(model, sound, pad):
    batch = pad([sound(16_000), sound(500_000)])
    expected, out = model(*batch), model(*batch, frame_wise=False)
    assert out.ppg is None and out.frame_log_probs is None
    assert torch.equal(out.log_probs, expected.log_probs)
    assert torch.equal(out.embedding, expected.embedding)
    assert out.lengths.tolist() == [50, 1_563]


def test_every_parameter_of_the_lobes_learns(model, sound, pad):
    model.train()
    out = model(*pad([sound(16_000), sound(8_160)]))
    assert out.frame_log_probs is None
    loss = out.log_probs[:, 0].sum()
    if out.ppg is not None:
        loss = loss + out.ppg[..., 0].sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        learns = parameter.requires_grad
        assert learns == (not name.startswith("encoder.")), name
        assert (parameter.grad is not None) == learns, name


def test_bf16_autocast_gives_float32_results(model, sound):
    expected = model(sound(16_000)[None]).log_probs
    with torch.autocast("cpu", torch.bfloat16):
        out = model(sound(16_000)[None])
    types = {x.dtype for x in vars(out).values() if x is not None}
    assert types == {torch.float32, torch.int64}
    assert close(out.log_probs, expected, 0.1)


def test_ppg_model_gives_the_ppg_of_the_whole_model(variants, sound, pad):
    whole = variants["whole"]
    model = PPGModel(whole.encoder, whole.ppg_head).eval()
    batch = pad([sound(16_000), sound(500_000)])
    out = model(*batch)
    assert torch.equal(out.ppg, whole(*batch).ppg)
    assert out.lengths.tolist() == [50, 1_563]
    encoded = model.encoder(*batch, model.blocks)
    assert close(model(encoded=encoded).ppg, out.ppg)
    assert model.blocks == [whole.encoder.n_blocks]
    assert set(model.lobes) == {"ppg_head"}


# Parts


@pytest.mark.parametrize(
    "parts, blocks",
    [
        ({}, [1, 2, 3]),
        ({"mixer": BlockMixer([3, 0], 16)}, [0, 3]),
        ({"ppg_head": None, "mmf": None, "cma": None}, [1, 2]),
        ({"mixer": None, "mmf": None, "cma": None}, [3]),
    ],
)
def test_blocks_that_are_needed(make_model, parts, blocks):
    assert make_model(**parts).blocks == blocks


def test_lobes_are_all_but_the_encoder(model):
    children = dict(model.named_children())
    assert set(model.lobes) == children.keys() - {"encoder"}
    ours = {id(p) for p in model.lobes.parameters()}
    encoders = {id(p) for p in model.encoder.parameters()}
    assert not ours & encoders
    assert ours | encoders == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(
    "parts, n_tokens, d_model",
    [
        ({"mmf": None}, 29, 16),
        ({"mmf": None, "cma": None, "mixer": None}, 29, 0),
        ({"mmf": None, "cma": None, "ppg_head": None}, 0, 16),
    ],
)
def test_without_mmf_streams_are_concatenated(
    make_model, parts, n_tokens, d_model
):
    fusion = make_model(**parts).mmf
    assert isinstance(fusion, Concatenation)
    assert fusion.linear.in_features == n_tokens + d_model


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"mixer": None, "ppg_head": None}, "needs a mixer, a ppg_head"),
        ({"mixer": None}, "give both a mixer and a ppg_head"),
        ({"ppg_head": None, "cma": None}, "MMF fuses two .* give both"),
        ({"ppg_head": None, "mmf": None}, "CMA fuses two .* give both"),
        ({"mixer": BlockMixer([4], 16)}, r"emotional_blocks.*no block \[4\]"),
        ({"mixer": BlockMixer([1], 8)}, "mixer has d_model 8 where 16"),
        ({"ppg_head": PPGHead(8, 29)}, "ppg_head has d_model 8 where 16"),
        ({"ppg_head": PretrainedPPGHead(8, 29)}, "ppg_head has d_model 8"),
        ({"mmf": MMF(29, 16, 10)}, "mmf has width 10 where 12"),
        ({"mmf": MMF(30, 16, 12)}, "mmf has n_tokens 30 where 29"),
        ({"mmf": CMAFirst(29, 8, 12)}, "mmf has d_model 8 where 16"),
        ({"cma": CMA(29, 16, 8)}, "cma has width 8 where 12"),
        ({"cma": CMA(30, 16, 12)}, "cma has n_tokens 30 where 29"),
        ({"cma": CMA(29, 8, 12)}, "cma has d_model 8 where 16"),
        ({"pooling": AveragePooling(12)}, "has width 24 where 12"),
        ({"pooling": AttentiveStatisticsPooling(8)}, "where 8|where 16"),
        (
            {"block_statistics": BlockStatistics([1], 8)},
            "block_statistics has d_model 8 where 16",
        ),
        ({"classifier": Classifier(12, 4)}, "classifier has width 12 where 24"),
        ({"speaker_model": SpeakerModel(12, 4)}, "has width 12 where 24"),
        ({"speaker_model": SpeakerModel(24, 3)}, "has n_classes 3 where 4"),
    ],
)
def test_parts_that_do_not_fit(make_model, parts, message):
    with pytest.raises(QieemoError, match=message):
        make_model(**parts)


def test_ppg_head_of_another_size(make_encoder):
    with pytest.raises(QieemoError, match="ppg_head has d_model 8 where 16"):
        PPGModel(make_encoder(), PPGHead(8, 29))


# Models as plain values


def assert_plain(value):
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            assert_plain(item)
    else:
        assert value is None or type(value) in (bool, int, float, str)


def assert_rebuilds(model, batch):
    config = model.config
    assert_plain(config)
    again = build_model(config).eval()
    assert again.config == config
    again.load_state_dict(model.state_dict())
    expected, found = model(*batch), again(*batch)
    for name, value in vars(expected).items():
        if value is not None:
            assert torch.equal(getattr(found, name), value), name


def test_config_builds_the_same_model(model, sound, pad):
    width, classes = model.classifier.width, model.classifier.n_classes
    model.speaker_model = SpeakerModel(width, classes)
    assert_rebuilds(model, pad([sound(16_000), sound(8_160)]))


def test_config_builds_the_same_ppg_model(ppg_model, sound, pad):
    assert_rebuilds(ppg_model, pad([sound(16_000), sound(8_160)]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": "Other"}, "no model 'Other': known are Qieemo, PPGModel"),
        ({"model": None}, "no model None"),
        ({"bridge": {}}, "no part 'bridge': known are encoder, mixer"),
        ({"ppg_head": {}}, "no ppg_head None: known are PPGHead, Pre"),
        ({"ppg_head": 3}, "no ppg_head None"),
        (
            {"encoder": {"class": "WhisperEncoder", "source": "some/model"}},
            "encoder must have dims, not a source",
        ),
        ({"ppg_head": {"class": ["x"]}}, r"no ppg_head \['x'\]"),
        ({"ppg_head": {"class": "MMF"}}, "no ppg_head 'MMF': known are PPGH"),
        (
            {"ppg_head": {"class": "PPGHead", "d_model": 16}},
            "ppg_head cannot be built: .*n_tokens",
        ),
        (
            {"ppg_head": {"class": "PPGHead", "d_model": 8, "n_tokens": 29}},
            "model cannot be built: .*d_model 8 where 16",
        ),
        (
            {"ppg_head": {"class": "PPGHead", "d_model": -1, "n_tokens": 29}},
            "ppg_head cannot be built",
        ),
        (
            {"encoder": {"class": "WhisperEncoder", "dims": {"d_model": 8}}},
            "encoder cannot be built: .*n_mels",
        ),
        (
            {"encoder": {"class": "SSLEncoder", "dims": {}}},
            "encoder cannot be built: .*family",
        ),
        (
            {"mixer": {"class": "BlockMixer", "blocks": [1], "d_model": 16}},
            "'mixer'",
        ),
    ],
)
def test_configs_that_are_refused(ppg_model, change, message):
    with pytest.raises(ModelFolderError, match=message):
        build_model({**ppg_model.config, **change})

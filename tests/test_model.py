"""Qieemo: its parts together, and utterances that stay apart."""

import pytest
import torch

from qieemo_sb.frames import sample_windows
from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.fusion import CMA, MMF, CMAFirst, Concatenation
from qieemo_sb.lobes.pooling import AttentiveStatisticsPooling, AveragePooling
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.lobes.speaker import SpeakerModel
from qieemo_sb.model import Qieemo


@pytest.fixture
def model(make_model, variant):
    return make_model(**variant)


def close(a, b, tolerance=1e-4):
    return a.shape == b.shape and (a - b).abs().max() < tolerance


def test_shapes(model, sound, pad):
    out = model(*pad([sound(16_000), sound(8_160)]))
    assert out.lengths.tolist() == [50, 26]
    assert out.log_probs.shape == (2, 4)
    assert out.embedding.shape == (2, model.classifier.width)
    assert out.frame_log_probs.shape == (2, 50, 4)
    if model.ppg_head is None:
        assert out.ppg is None
    else:
        assert out.ppg.shape == (2, 50, 29)


def test_rows_are_distributions(model, sound, pad):
    out = model(*pad([sound(16_000), sound(8_160)]))
    assert close(out.log_probs.exp().sum(-1), torch.ones(2), 1e-5)
    frames = out.frame_log_probs.exp().sum(-1)
    assert close(frames, torch.ones(2, 50), 1e-5)


@pytest.mark.parametrize("samples", [400, 9_999])
def test_alone_and_in_company(model, sound, in_company, samples):
    signal = sound(samples, gain=0.01)
    alone, company = model(signal[None]), model(*in_company(signal))
    frames = int(alone.lengths[0])
    assert company.lengths[0] == frames
    assert close(company.log_probs[:1], alone.log_probs)
    assert close(company.embedding[:1], alone.embedding)
    assert close(company.frame_log_probs[:1, :frames], alone.frame_log_probs)
    if alone.ppg is not None:
        assert close(company.ppg[:1, :frames], alone.ppg)


def test_utterances_get_different_answers(model, sound, in_company):
    log_probs = model(*in_company(sound(9_999))).log_probs
    assert len(log_probs.unique(dim=0)) == 8


def test_order_of_the_batch(model, sound, pad):
    signals = [sound(4_000 * i, seed=i) for i in range(1, 5)]
    order = [2, 0, 3, 1]
    out = model(*pad(signals))
    shuffled = model(*pad([signals[i] for i in order]))
    assert close(shuffled.log_probs, out.log_probs[order])
    assert close(shuffled.frame_log_probs, out.frame_log_probs[order])


def test_encoded_instead_of_waveforms(model, sound, pad):
    wavs, wav_lens = pad([sound(16_000), sound(8_160)])
    encoded = model.encoder(wavs, wav_lens, model.blocks)
    heard, read = model(wavs, wav_lens), model(encoded=encoded)
    assert close(read.log_probs, heard.log_probs)
    assert close(read.frame_log_probs, heard.frame_log_probs)


def test_longer_than_30_s(model, sound, pad):
    wavs, wav_lens = pad([sound(8_160, 1), sound(640_000, 2)])
    heard = model(wavs, wav_lens)
    read = model(encoded=model.encoder(wavs, wav_lens))
    assert heard.lengths.tolist() == [26, 2_000]
    for row, frames in enumerate((26, 2_000)):
        assert close(read.log_probs[row], heard.log_probs[row])
        own = read.frame_log_probs[row, :frames]
        assert close(own, heard.frame_log_probs[row, :frames])
    alone = model(wavs[:1, :8_160])
    assert close(heard.log_probs[:1], alone.log_probs)


def test_attention_stays_inside_its_window(make_model, sound):
    model = make_model()
    for name, parameter in model.cma.named_parameters():
        if name.endswith("weight") and parameter.dim() > 1:
            parameter.data *= 5
    # Two halves that say different things, so that a look across would show.
    signal = torch.cat([sound(320_000, gain=1.0), torch.zeros(320_000)])
    heard = model(signal[None])
    read = model(encoded=model.encoder(signal[None]))
    assert close(read.embedding, heard.embedding)
    first = model(signal[None, :320_000])
    before = heard.frame_log_probs[:, : 1_000 - 25]
    assert close(before, first.frame_log_probs[:, :-25])


def test_windows_of_a_long_utterance_are_fused_apart(model, sound):
    signal = sound(640_000)
    halves = [model(half[None]) for half in signal.split(320_000)]
    whole = model(signal[None])
    if whole.ppg is not None:
        assert close(whole.ppg, torch.cat([h.ppg for h in halves], dim=1))
    # A second's statistics reach half a second over a window's border.
    before = whole.frame_log_probs[:, : 1_000 - 25]
    assert close(before, halves[0].frame_log_probs[:, :-25])


def test_pooled_over_all_windows(make_model, sound):
    model = make_model()
    for parameter in model.pooling.attention.parameters():
        parameter.data.zero_()  # every frame weighs the same
    signal = sound(640_000)
    halves = [model(half[None]).embedding for half in signal.split(320_000)]
    mean = (halves[0] + halves[1])[:, :12] / 2
    assert close(model(signal[None]).embedding[:, :12], mean)


def test_a_frame_knows_its_second_only(make_model, sound):
    # Without attention across frames, and far enough from what changes.
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


def test_frames_are_not_classified_in_training(model, sound):
    assert model.train()(sound(16_000)[None]).frame_log_probs is None


def test_every_parameter_of_the_lobes_learns(model, sound, pad):
    model.train()
    out = model(*pad([sound(16_000), sound(8_160)]))
    loss = out.log_probs[:, 0].sum()
    if out.ppg is not None:
        loss = loss + out.ppg[..., 0].sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        learns = parameter.requires_grad
        assert learns == (not name.startswith("encoder.")), name
        assert (parameter.grad is not None) == learns, name


def test_bf16_autocast_gives_float32_answers(model, sound):
    expected = model(sound(16_000)[None]).log_probs
    with torch.autocast("cpu", torch.bfloat16):
        out = model(sound(16_000)[None])
    types = {x.dtype for x in vars(out).values() if x is not None}
    assert types == {torch.float32, torch.int64}
    assert close(out.log_probs, expected, 0.1)


def test_without_frame_wise_results(model, sound, pad):
    batch = pad([sound(16_000), sound(640_000)])
    expected, out = model(*batch), model(*batch, frame_wise=False)
    assert out.ppg is None and out.frame_log_probs is None
    assert torch.equal(out.log_probs, expected.log_probs)
    assert torch.equal(out.embedding, expected.embedding)
    assert out.lengths.tolist() == [50, 2_000]
    encoded = model.encoder(*batch, model.blocks)
    assert model(encoded=encoded, frame_wise=False).ppg is None


def test_window_by_window(model, sound):
    signal = sound(1_000_000)
    spans = sample_windows(1_000_000)
    assert len(spans) == 3
    embedding = model.embed_windows(signal[a:b] for a, b in spans)
    expected = model(signal[None], frame_wise=False).embedding
    assert torch.equal(embedding, expected)


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
def test_blocks_that_are_read(make_model, parts, blocks):
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
def test_without_mmf_streams_are_joined(make_model, parts, n_tokens, d_model):
    join = make_model(**parts).mmf
    assert isinstance(join, Concatenation)
    assert join.linear.in_features == n_tokens + d_model


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"mixer": None, "ppg_head": None}, "needs a mixer, a ppg_head"),
        ({"mixer": None}, "give both a mixer and a ppg_head"),
        ({"ppg_head": None, "cma": None}, "give both"),
        ({"ppg_head": None, "mmf": None}, "give both"),
        ({"mixer": BlockMixer([4], 16)}, r"no block \[4\]"),
        ({"mixer": BlockMixer([1], 8)}, "mixer has d_model 8 where 16"),
        ({"mmf": MMF(29, 16, 10)}, "mmf has width 10 where 12"),
        ({"mmf": CMAFirst(29, 8, 12)}, "mmf has d_model 8 where 16"),
        ({"pooling": AveragePooling(12)}, "has width 24 where 12"),
        ({"cma": CMA(29, 16, 8, heads=2)}, "cma has width 8 where 12"),
        ({"speaker_model": SpeakerModel(12, 4)}, "has width 12 where 24"),
        ({"speaker_model": SpeakerModel(24, 3)}, "has n_classes 3 where 4"),
        ({"pooling": AttentiveStatisticsPooling(8)}, "has width 24 where 16"),
    ],
)
def test_parts_that_do_not_fit(make_model, parts, message):
    with pytest.raises(ValueError, match=message):
        make_model(**parts)


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"ppg_head": PPGHead(d_model=8, n_tokens=29)}, "ppg_head"),
        ({"classifier": Classifier(width=12, n_classes=4)}, "classifier"),
        ({"mmf": MMF(n_tokens=30, d_model=16, width=12)}, "mmf"),
        ({"mmf": MMF(n_tokens=29, d_model=8, width=12)}, "mmf"),
        ({"cma": CMA(n_tokens=30, d_model=16, width=12)}, "cma"),
        ({"cma": CMA(n_tokens=29, d_model=8, width=12)}, "cma"),
    ],
)
def test_inner_widths_that_do_not_fit(make_model, parts, message):
    with pytest.raises(ValueError, match=message):
        make_model(**parts)


# -- A model that only reads -------------------------------------------------


def test_a_reader_gives_the_ppg_of_the_whole_model(make_model, sound):
    whole = make_model()
    reader = Qieemo(encoder=whole.encoder, ppg_head=whole.ppg_head).eval()
    wavs = sound(16_000)[None]
    read = reader(wavs)
    assert torch.equal(read.ppg, whole(wavs).ppg)
    assert read.log_probs is read.embedding is read.frame_log_probs is None
    assert reader.blocks == [whole.encoder.n_blocks]


@pytest.mark.parametrize("part", ["mixer", "mmf", "cma"])
def test_a_reader_has_nothing_to_fuse(make_model, part):
    whole = make_model()
    with pytest.raises(ValueError, match="only reads"):
        Qieemo(
            encoder=whole.encoder,
            ppg_head=whole.ppg_head,
            **{part: getattr(whole, part)},
        )


@pytest.mark.parametrize("part", ["pooling", "classifier"])
def test_pooling_and_classifier_come_together(make_model, part):
    with pytest.raises(ValueError, match="or neither"):
        make_model(**{part: None})

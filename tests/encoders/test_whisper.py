"""Whisper's encoder: transformers' numbers, independent of batch mates."""

import shutil

import numpy as np
import pytest
import torch
from checkpoints import make_whisper, names_where, train_once
from safetensors.torch import load_file, save_file
from transformers import (
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import (
    WhisperEncoder as PublishedEncoder,
)

from qieemo_sb.encoders.base import EncoderOutput
from qieemo_sb.encoders.whisper import (
    LogMel,
    WhisperEncoder,
    mel_filters,
)
from qieemo_sb.errors import AudioError, QieemoError
from qieemo_sb.frames import num_frames, sample_windows

SECONDS = 16_000


@pytest.fixture(scope="module")
def published():
    """A small Whisper as transformers makes it."""
    torch.manual_seed(0)
    model = make_whisper(
        encoder_layers=3, encoder_attention_heads=4, encoder_ffn_dim=48
    ).eval()
    for name, parameter in model.named_parameters():
        # Fresh weights are too small to disagree, and fresh biases zero.
        if name.endswith("bias"):
            parameter.data.normal_(std=0.5)
        elif "embed_positions" not in name:
            parameter.data *= 4
    return model


@pytest.fixture(scope="module")
def source(published, tmp_path_factory):
    """Its folder."""
    folder = tmp_path_factory.mktemp("whisper")
    published.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(source):
    return WhisperEncoder(source=str(source)).eval()


def distance(a, b):
    return (a - b).abs().max().item()


def extracted(signal, n_mels=80):
    """transformers' log-mel [M, n_mels] on the utterance's own frames."""
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    mel = extractor(signal.numpy(), sampling_rate=16_000)["input_features"][0]
    return torch.from_numpy(mel)[:, : len(signal) // 160]


def log_mel(signal, n_mels=80):
    return LogMel(n_mels)(signal[None], torch.tensor([len(signal)]))[0]


def renamed(weights):
    """Weights of transformers' encoder by the names of ours."""
    names = {
        "layers.": "blocks.",
        "layer_norm.": "norm.",
        "embed_positions.": "positions.",
    }
    found = {}
    for name, value in weights.items():
        for old, new in names.items():
            if name.startswith(old):
                name = new + name.removeprefix(old)
        found[name] = value
    return found


# Log-mel


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_filters_are_those_of_transformers(n_mels):
    expected = mel_filter_bank(
        num_frequency_bins=201,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=8_000.0,
        sampling_rate=16_000,
        norm="slaney",
        mel_scale="slaney",
    )
    assert np.abs(mel_filters(n_mels) - expected.T).max() < 1e-12


@pytest.mark.parametrize(
    "samples",
    [400, 480, 16_000, 16_160, 116_800, 479_679, 479_999, 480_000],
)
def test_log_mel_is_that_of_transformers(sound, samples):
    signal = sound(samples)
    assert distance(log_mel(signal), extracted(signal)) < 1e-5


def test_log_mel_of_large_v3(sound):
    signal = sound(SECONDS)
    assert log_mel(signal, 128).shape == (128, 100)
    assert distance(log_mel(signal, 128), extracted(signal, 128)) < 1e-5


def test_log_mel_of_silence():
    signal = torch.zeros(SECONDS)
    # log10 of the floor is -10: (-10 + 4) / 4.
    assert log_mel(signal).unique().tolist() == [-1.5]
    assert distance(log_mel(signal), extracted(signal)) < 1e-5


def test_click_in_the_last_window_counts_for_the_ceiling(sound):
    signal = sound(SECONDS, gain=0.001)
    signal[-1] = 1.0
    assert distance(log_mel(signal), extracted(signal)) < 1e-5


def test_log_mel_beside_louder_clips(sound, in_company):
    signal = sound(7_777, gain=0.01)
    mel = LogMel()(*in_company(signal))
    assert distance(mel[0, :, :48], extracted(signal)) < 1e-5
    assert not mel[0, :, 48:].any()


def test_log_mel_of_30_s_beside_shorter_clips(sound, pad):
    # At 30 s the end is mirrored; a second before, it is silence.
    signals = [sound(480_000, 1), sound(464_000, 2), sound(479_999, 3)]
    mels = LogMel()(*pad(signals))
    for mel, signal in zip(mels, signals, strict=True):
        expected = extracted(signal)
        assert distance(mel[:, : expected.shape[1]], expected) < 1e-5


def test_features_are_float32_under_autocast(sound, make_encoder):
    encoder, seen = make_encoder(), []
    encoder.log_mel.register_forward_hook(lambda *a: seen.append(a[-1]))
    wavs = sound(SECONDS)[None]
    with torch.autocast("cpu", torch.bfloat16):
        encoder(wavs)
        encoder(wavs.bfloat16())
    encoder(wavs)
    assert seen[0].dtype == seen[1].dtype == torch.float32
    assert torch.equal(seen[0], seen[2])


# Blocks


def test_thirty_seconds_equal_transformers(sound, encoder, published):
    signal = sound(480_000)
    with torch.no_grad():
        expected = published.encoder(
            extracted(signal)[None], output_hidden_states=True
        )
    hidden = encoder(signal[None]).hidden_states
    assert hidden.keys() == {0, 1, 2, 3}
    for k in range(3):
        assert distance(hidden[k], expected.hidden_states[k]) < 1e-4, k
    assert distance(hidden[3], expected.last_hidden_state) < 1e-4


def test_norm_is_on_the_last_block_only(sound, encoder):
    hidden = encoder(sound(SECONDS)[None]).hidden_states
    norm = encoder.norm
    deviations = [
        ((h - norm.bias) / norm.weight).std(dim=-1, unbiased=False)
        for h in hidden.values()
    ]
    is_normed = [bool(((d - 1.0).abs() < 1e-2).all()) for d in deviations]
    assert is_normed == [False, False, False, True]


def test_shapes_and_lengths(sound, pad, encoder):
    encoded = encoder(*pad([sound(16_000), sound(400), sound(8_160)]))
    assert encoded.lengths.tolist() == [50, 1, 26]
    assert encoded.lengths.dtype == torch.int64
    for hidden in encoded.hidden_states.values():
        assert hidden.shape == (3, 50, 32)


def test_every_row_is_full_without_lengths(sound, encoder):
    assert encoder(sound(SECONDS).repeat(2, 1)).lengths.tolist() == [50, 50]


def test_subset_of_blocks(sound, encoder):
    wavs = sound(SECONDS)[None]
    every, some = encoder(wavs), encoder(wavs, blocks=[2, 0])
    assert some.hidden_states.keys() == {0, 2}
    for k in (0, 2):
        assert torch.equal(some.hidden_states[k], every.hidden_states[k])


@pytest.mark.parametrize(
    "blocks, runs", [([0], 0), ([1, 2], 2), ([2], 2), ([0, 3], 3)]
)
def test_blocks_above_the_highest_are_not_run(
    sound, make_encoder, blocks, runs
):
    encoder, ran = make_encoder(), []
    for block in encoder.blocks:
        block.fc1.register_forward_hook(lambda *_: ran.append(1))
    encoder.norm.register_forward_hook(lambda *_: ran.append("norm"))
    encoder(sound(SECONDS)[None], blocks=blocks)
    assert ran == [1] * runs + ["norm"] * (runs == 3)


# One utterance, whatever stands beside it


@pytest.mark.parametrize("samples", [400, 5_555, 16_000, 16_160])
def test_alone_and_in_company(sound, in_company, encoder, samples):
    signal = sound(samples, gain=0.01)
    alone, company = encoder(signal[None]), encoder(*in_company(signal))
    frames = num_frames(samples)
    assert company.lengths[0] == alone.lengths[0] == frames
    for k, hidden in company.hidden_states.items():
        assert distance(hidden[0, :frames], alone.hidden_states[k][0]) < 1e-5
        assert not hidden[0, frames:].any()


def test_order_of_the_batch(sound, pad, encoder):
    signals = [sound(4_000 * i, seed=i) for i in range(1, 5)]
    order = [2, 0, 3, 1]
    hidden = encoder(*pad(signals)).hidden_states[3]
    shuffled = encoder(*pad([signals[i] for i in order])).hidden_states[3]
    assert distance(shuffled, hidden[order]) < 1e-5


@pytest.mark.parametrize("garbage", [1e4, torch.nan, torch.inf])
def test_what_lies_past_the_end_changes_nothing(sound, pad, encoder, garbage):
    wavs, lengths = pad([sound(16_000), sound(9_000)])
    clean = encoder(wavs, lengths).hidden_states[3]
    wavs[1, 9_000:] = garbage
    assert torch.equal(encoder(wavs, lengths).hidden_states[3], clean)


def test_padding_of_the_whole_batch_changes_nothing(sound, encoder):
    wavs = sound(SECONDS)[None]
    longer = torch.nn.functional.pad(wavs, (0, SECONDS))
    padded = encoder(longer, torch.tensor([SECONDS]))
    assert padded.hidden_states[3].shape == (1, 50, 32)
    expected = encoder(wavs).hidden_states[3]
    assert torch.equal(padded.hidden_states[3], expected)


def test_input_is_left_as_it_was(sound, pad, encoder):
    wavs, lengths = pad([sound(16_000), sound(9_000)])
    wavs[1, 9_000:] = 5.0
    before = wavs.clone()
    encoder(wavs, lengths)
    assert torch.equal(wavs, before)


# More than 30 s


def test_forty_seconds_are_twice_twenty(sound, encoder):
    signal = sound(640_000)
    encoded = encoder(signal[None], blocks=[1, 3])
    assert encoded.lengths.tolist() == [2_000]
    for k, hidden in encoded.hidden_states.items():
        halves = [
            encoder(half[None]).hidden_states[k][0]
            for half in signal.split(320_000)
        ]
        assert distance(hidden[0], torch.cat(halves)) < 1e-5


def test_long_and_short_in_one_batch(sound, pad, encoder):
    long, short = sound(500_000, 1, gain=1.0), sound(16_000, 2, gain=0.01)
    encoded = encoder(*pad([short, long]), blocks=[3])
    assert encoded.lengths.tolist() == [50, 1_563]
    hidden = encoded.hidden_states[3]
    for row, signal in enumerate((short, long)):
        alone = encoder(signal[None], blocks=[3]).hidden_states[3][0]
        assert distance(hidden[row, : len(alone)], alone) < 1e-4
    assert not hidden[0, 50:].any()


def test_windows_come_in_batches_of_the_callers_size(sound, pad, encoder):
    wavs, lengths = pad([sound(8_000), sound(1_000_000)])
    windows = list(encoder.windows(wavs, lengths, [0])[0])
    assert [window.rows for window in windows] == [[0, 1], [1, 1]]
    starts = [window.starts for window in windows]
    # Of 3 125 frames 30 s, then halves of the rest.
    assert starts == [[0, 0], [1_500, 2_312]]
    frames = [window.lengths.tolist() for window in windows]
    assert frames == [[25, 1_500], [812, 813]]


def test_output_and_audio_are_cut_at_the_same_places(sound, pad, encoder):
    wavs, lengths = pad([sound(8_000), sound(1_000_000)])
    cut = list(encoder(wavs, lengths, blocks=[2]).windows())
    assert [(w.rows, w.starts) for w in cut] == [
        ([0], [0]),
        ([1], [0]),
        ([1], [1_500]),
        ([1], [2_312]),
    ]
    spans = sample_windows(1_000_000)
    for (start, end), theirs in zip(spans, cut[1:], strict=True):
        ours = encoder(wavs[1:, start:end], blocks=[2])
        assert torch.equal(ours.lengths, theirs.lengths)
        found, expected = ours.hidden_states[2], theirs.hidden_states[2]
        assert distance(found, expected) < 1e-5
    assert torch.equal(cut[0].lengths, torch.tensor([25]))


# Compiled


@pytest.fixture
def compiled(make_encoder):
    """Make an encoder that torch.compile sees, and a list of its graphs."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    def make(**options):
        encoder = make_encoder(**options)
        encoder.compile_blocks(backend=backend)
        return encoder, graphs

    yield make
    torch.compiler.reset()


def test_compiled_blocks_give_the_same(compiled, make_encoder, sound, pad):
    fast, graphs = compiled()
    for sizes in ([16_000], [9_000, 400], [12_345], [640, 16_000, 30_000]):
        batch = pad([sound(size) for size in sizes])
        expected = make_encoder()(*batch).hidden_states[3]
        assert distance(fast(*batch).hidden_states[3], expected) < 1e-5
    # Before and after attention, for the first number of frames and for any;
    # not for each block and batch.
    assert 0 < len(graphs) <= 4


def test_compiled_blocks_learn_the_same(compiled, make_encoder, sound):
    wavs = sound(SECONDS)[None]
    plain = make_encoder(trainable_above=1)
    fast, _ = compiled(trainable_above=1)
    assert train_once(fast, wavs) == train_once(plain, wavs)
    for a, b in zip(plain.parameters(), fast.parameters(), strict=True):
        if a.grad is not None:
            assert torch.allclose(a.grad, b.grad, atol=1e-6)


# Weights


def test_checkpoint_of_half_precision_becomes_float32(
    published, sound, tmp_path
):
    half = WhisperModel(published.config)
    half.load_state_dict(published.state_dict())
    half.half().save_pretrained(tmp_path)
    encoder = WhisperEncoder(source=str(tmp_path))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    hidden = encoder(sound(SECONDS)[None], blocks=[3]).hidden_states[3]
    assert hidden.dtype == torch.float32


def test_weights_are_those_of_the_checkpoint(encoder, published):
    ours, theirs = encoder.state_dict(), published.encoder.state_dict()
    assert ours.keys() == renamed(theirs).keys()
    for name, value in renamed(theirs).items():
        assert torch.equal(ours[name], value), name


def test_fresh_weights_are_those_of_transformers(published):
    torch.manual_seed(0)
    dims = {"n_mels": 80, "d_model": 32, "n_blocks": 3, "n_heads": 4}
    ours = WhisperEncoder(dims={**dims, "ffn_dim": 48}).state_dict()
    torch.manual_seed(0)
    theirs = renamed(PublishedEncoder(published.config).state_dict())
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_missing_weights_are_an_error(source, tmp_path):
    (tmp_path / "config.json").write_bytes(
        (source / "config.json").read_bytes()
    )
    weights = load_file(source / "model.safetensors")
    name = next(k for k in weights if k.endswith("encoder.layers.1.fc1.weight"))
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(QieemoError, match="layers.1.fc1.weight") as caught:
        WhisperEncoder(source=str(tmp_path))
    assert f"'{tmp_path}'" in str(caught.value)


def test_missing_decoder_weights_are_not(source, tmp_path):
    (tmp_path / "config.json").write_bytes(
        (source / "config.json").read_bytes()
    )
    weights = load_file(source / "model.safetensors")
    weights = {k: v for k, v in weights.items() if "decoder" not in k}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert WhisperEncoder(source=str(tmp_path)).n_blocks == 3


def test_other_activations_are_an_error(source, tmp_path):
    shutil.copytree(source, tmp_path / "relu")
    config = tmp_path / "relu" / "config.json"
    config.write_text(config.read_text().replace('"gelu"', '"relu"'))
    with pytest.raises(QieemoError, match="has relu between"):
        WhisperEncoder(source=str(tmp_path / "relu"))


@pytest.mark.parametrize("both", [True, False])
def test_either_source_or_dims(source, encoder, both):
    arguments = {"source": str(source), "dims": encoder.dims} if both else {}
    with pytest.raises(QieemoError, match="either source or dims"):
        WhisperEncoder(**arguments)


def test_dims_of_a_source_build_the_same_shape(source, encoder, sound):
    assert encoder.config == {
        "dims": {
            "n_mels": 80,
            "d_model": 32,
            "n_blocks": 3,
            "n_heads": 4,
            "ffn_dim": 48,
        }
    }
    again = WhisperEncoder(**encoder.config)
    again.load_state_dict(encoder.state_dict())
    wavs = sound(SECONDS)[None]
    assert torch.equal(
        again(wavs).hidden_states[3], encoder(wavs).hidden_states[3]
    )


# Training


def test_all_trains_but_the_positions(sound, make_encoder):
    encoder = make_encoder(trainable_above=0)
    expected = {n for n, _ in encoder.named_parameters()} - {"positions.weight"}
    assert names_where(encoder, lambda p: p.requires_grad) == expected
    assert train_once(encoder, sound(SECONDS)[None]) == expected


def test_positions_of_a_checkpoint_do_not_train(source):
    encoder = WhisperEncoder(source=str(source), trainable_above=0)
    frozen = names_where(encoder, lambda p: not p.requires_grad)
    assert frozen == {"positions.weight"}


def test_spec_augment_is_for_training_only(sound, pad, make_encoder):
    encoder = make_encoder(trainable_above=0)
    wavs, lengths = pad([sound(8_000), sound(5_000)])
    plain = encoder.eval()(wavs, lengths).hidden_states[3]
    seen = []

    def augment(mel):
        seen.append(mel.shape)
        return mel + 1.0

    encoder.spec_augment = augment
    assert torch.equal(encoder(wavs, lengths).hidden_states[3], plain)
    assert seen == []
    augmented = encoder.train()(wavs, lengths).hidden_states[3]
    assert seen == [(2, 50, 80)]
    assert distance(augmented, plain) > 1e-3


def test_spec_augment_cannot_write_past_the_end(sound, pad, make_encoder):
    encoder = make_encoder(trainable_above=0).train()
    encoder.spec_augment = lambda mel: mel + 1.0
    short, long = sound(5_000, 1), sound(8_000, 2)
    beside = encoder(*pad([short, long])).hidden_states[3][0, :16]
    assert distance(beside, encoder(short[None]).hidden_states[3][0]) < 1e-4


# Errors


@pytest.mark.parametrize(
    "wavs, message",
    [
        (torch.zeros(1, 399), "Utterance 0 of the batch has 399"),
        (torch.full((1, 400), torch.nan), r"Utterances \[0\] of the batch"),
        (torch.zeros(16_000), r"must be \[B, S\], not \(16000,\)"),
    ],
)
def test_batches_are_checked(encoder, wavs, message):
    with pytest.raises(AudioError, match=message):
        encoder(wavs)
    assert encoder(torch.zeros(1, 400)).lengths.tolist() == [1]


def test_blocks_that_do_not_exist(sound, encoder):
    with pytest.raises(QieemoError, match=r"no block \[-1, 4\].*1 to 3"):
        encoder(sound(SECONDS)[None], blocks=[4, 2, -1])


def test_output_is_what_the_contract_says(sound, encoder):
    encoded = encoder(sound(SECONDS)[None])
    assert isinstance(encoded, EncoderOutput)
    assert encoded.hidden_states[0].shape == (1, 50, encoder.d_model)
    assert max(encoded.hidden_states) == encoder.n_blocks

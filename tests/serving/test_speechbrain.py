"""SpeechBrain's interface to a model folder: its own class, and ours."""

import functools
import json
import os
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)
from torch import nn

import qieemo_sb
from qieemo_sb.errors import AudioError, ModelFolderError, QieemoError
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.model import PPGModel
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.speechbrain import EncoderClassifier

LABELS = ["neu", "hap", "ang", "sad"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model):
    folder = tmp_path_factory.mktemp("speechbrain") / "model"
    return save_model(folder, make_model(), "", LABELS, Characters())


@pytest.fixture(scope="module")
def ours(folder):
    return EncoderClassifier.from_hparams(folder)


@pytest.fixture(scope="module", params=["in place", "savedir"])
def theirs(request, folder, tmp_path_factory):
    savedir = None
    if request.param == "savedir":
        savedir = tmp_path_factory.mktemp("saved") / "model"
    return SpeechBrainEncoderClassifier.from_hparams(
        source=str(folder), savedir=savedir
    )


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        pytest.fail("The network was asked.")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def load(folder, **run_opts):
    return EncoderClassifier.from_hparams(folder, run_opts=run_opts)


def same(ours, theirs):
    assert ours[3] == theirs[3]
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        assert torch.equal(a, b)


def close(a, b):
    return torch.allclose(a, b, atol=1e-5)


# As SpeechBrain's class


def test_a_batch(ours, theirs, sound, pad):
    wavs, lengths = pad([sound(16_000, 1), sound(8_160, 2), sound(400, 3)])
    batch = wavs, lengths / lengths.max()
    same(ours.classify_batch(*batch), theirs.classify_batch(*batch))
    assert torch.equal(ours.encode_batch(*batch), theirs.encode_batch(*batch))
    for alone in (wavs, wavs[0]):
        same(ours.classify_batch(alone), theirs.classify_batch(alone))
    same(ours(*batch), ours.classify_batch(*batch))


@pytest.mark.parametrize(
    "rate, samples",
    [
        (8_000, np.random.default_rng(0).uniform(-0.5, 0.5, 8_000)),
        (44_100, np.random.default_rng(0).uniform(-0.5, 0.5, (44_100, 2))),
        (16_000, np.zeros(16_000)),
        (16_000, np.ones(640_000)),
        (16_000, np.zeros(400)),
    ],
    ids=["8 kHz", "stereo", "silence", "40 s", "25 ms"],
)
def test_a_file(ours, theirs, write_wav, rate, samples):
    path = write_wav(samples, rate)
    result = ours.classify_file(path)
    assert torch.isfinite(result[0]).all()
    expected = theirs.classify_file(str(path))  # resampled by torchaudio
    assert torch.allclose(result[0], expected[0], atol=1e-4)
    assert result[3] == expected[3]


def test_arrays_and_lists_are_waveforms_too(ours, sound, pad):
    wavs, lengths = pad([sound(1_600, 1), sound(800, 2)])
    expected = ours.classify_batch(wavs, lengths / 1_600)
    for convert in (torch.Tensor.numpy, torch.Tensor.tolist, list):
        same(ours.classify_batch(convert(wavs), [1.0, 0.5]), expected)
        alone = ours.encode_batch(convert(wavs[0]))
        assert torch.equal(alone, ours.encode_batch(wavs[0]))
    backwards = ours.encode_batch(wavs.numpy()[:, ::-1])
    assert torch.equal(backwards, ours.encode_batch(wavs.flip(1)))
    inner = ours.qieemo.embed_batch(wavs.tolist(), [1_600, 800])
    assert torch.equal(inner, ours.encode_batch(wavs, lengths / 1_600))


@pytest.mark.parametrize(
    "wavs, wav_lens, message",
    [
        ([[0.0] * 400, [0.0] * 800], None, "wavs must be numbers, in rows"),
        ("a.wav", None, "wavs must be numbers"),
        (None, None, "wavs must be numbers"),
        ([10**400] * 400, None, "wavs must be numbers"),
        ([1] * 400, None, "divided by 32768"),
        ([], None, "0 samples"),
        ([0.0] * 400, ["long"], "wav_lens must be numbers"),
        ([0.0] * 400, 1.0, "wav_lens must be numbers"),
        ([0.0] * 400, [float("nan")], "wav_lens are fractions"),
        ([0.0] * 400, [[1.0]], r"wav_lens must be \[B\]"),
        ([0.0] * 400, [1.0, 1.0], "lengths must be 1 whole numbers"),
    ],
)
def test_batches_of_something_else(ours, wavs, wav_lens, message):
    for call in (ours.classify_batch, ours.encode_batch, ours.analyse_batch):
        with pytest.raises(AudioError, match=message):
            call(wavs, wav_lens)


def test_an_output_that_is_not_finite_is_an_error(ours, sound, monkeypatch):
    classifier = ours.qieemo.emotion_model.classifier
    monkeypatch.setattr(
        classifier.linear.bias, "data", torch.full((4,), torch.nan)
    )
    with pytest.raises(ModelFolderError, match="output is not finite"):
        ours.classify_batch(sound(400))


def test_a_result_has_four_parts(ours, sound, pad):
    wavs, lengths = pad([sound(16_000, 1), sound(8_160, 2)])
    result = ours.classify_batch(wavs, lengths / lengths.max())
    log_probs, score, index, emotions = result
    assert log_probs.shape == (2, 4)
    assert close(log_probs.exp().sum(-1), torch.ones(2))
    assert torch.equal(score, log_probs.amax(-1))
    assert torch.equal(index, log_probs.argmax(-1))
    assert emotions == [ours.labels[i] for i in index]


def test_labels_stand_where_speechbrain_keeps_them(ours, theirs):
    assert ours.labels == LABELS
    for classifier in (ours, theirs):
        found = classifier.hparams.label_encoder.ind2lab
        assert found == dict(enumerate(LABELS))
        assert classifier.hparams.sample_rate == 16_000
    assert qieemo_sb.EncoderClassifier is EncoderClassifier


def test_labels_may_be_out_of_order_in_their_file(tmp_path, make_model, sound):
    model = make_model()
    folder = save_model(tmp_path / "m", model, "", LABELS)
    path = folder / "label_encoder.txt"
    a, b, c, d, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([c, a, d, b, *rest]))
    config = json.loads((folder / "config.json").read_text())
    config["sha256"] = {
        "model.safetensors": config["sha256"]["model.safetensors"]
    }  # nobody checks the labels, then
    (folder / "config.json").write_text(json.dumps(config))
    for kind in (EncoderClassifier, SpeechBrainEncoderClassifier):
        classifier = kind.from_hparams(str(folder))
        log_probs, _, index, text = classifier.classify_batch(sound(16_000))
        assert close(log_probs, model(sound(16_000)[None]).log_probs)
        assert text == [LABELS[index]]


def test_a_model_that_ships_is_loaded_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classifier = EncoderClassifier.from_hparams("open", savedir="linked")
    assert classifier.labels == load_model("open").labels


# As load_model's


def test_it_is_an_adapter(ours, folder, write_wav, sound, tmp_path):
    inner = load_model(folder)
    wavs = [write_wav(sound(9_000, i), name=f"{i}.wav") for i in range(3)]
    gone, names = tmp_path / "gone.wav", ["ann", "bob", "ann", "ann"]
    ann = ours.adapt(wavs)
    assert torch.equal(ann.mean, inner.adapt(wavs).mean)
    pairs = [
        (ours.classify_files([gone, *wavs]), inner.predict([gone, *wavs])),
        (
            ours.classify_files(wavs, speaker=ann),
            inner.predict(wavs, speaker=ann),
        ),
        (
            ours.classify_conversation([gone, *wavs], names),
            inner.predict_conversation([gone, *wavs], names),
        ),
    ]
    for tuples, predictions in pairs:
        for found, expected in zip(tuples, predictions, strict=True):
            if isinstance(expected, AudioError):
                assert str(found) == str(expected)
                continue
            log_probs, score, index, text = found
            scores = torch.tensor([list(expected.scores.values())])
            assert close(log_probs.exp(), scores)
            assert [x.shape for x in (score, index)] == [(1,), (1,)]
            assert text == [expected.emotion]
    assert close(
        ours.classify_file(wavs[0], speaker=ann)[0],
        ours.classify_batch(ours.load_audio(wavs[0]), speaker=ann)[0],
    )


def test_words_and_frames(ours, folder, sound, pad, write_wav):
    inner = load_model(folder)
    wavs, lengths = pad([sound(16_000), sound(8_000)])
    batch = wavs, lengths / lengths.max()
    ppg, expected = ours.ppg_batch(*batch), inner.ppg_batch(wavs, lengths)
    assert torch.equal(ppg.posteriors, expected.posteriors)
    texts = ours.transcribe_batch(*batch)
    assert texts == inner.transcribe_batch(wavs, lengths)
    assert ours.transcribe_file(write_wav(wavs[0])) == texts[0][0]
    frames = ours.analyse_batch(wavs[0]).frame_log_probs
    assert frames.shape == (1, 50, 4)
    assert ours.tokens == Characters()


def test_stage_one(tmp_path, make_model, sound):
    whole = make_model()
    model = PPGModel(whole.encoder, whole.ppg_head)
    folder = save_model(tmp_path / "m", model, "", None, Characters())
    reader = EncoderClassifier.from_hparams(folder)
    assert isinstance(reader.transcribe_batch(sound(16_000))[0][0], str)
    for call in (reader.classify_batch, reader.encode_batch):
        with pytest.raises(ModelFolderError, match="knows no emotion"):
            call(sound(16_000))
    with pytest.raises(ModelFolderError, match="knows no emotion"):
        SpeechBrainEncoderClassifier.from_hparams(str(folder))


# Run options


def test_precision_is_autocast(ours, folder, sound, write_wav):
    signal = sound(16_000)
    half = load(folder, precision="bf16")
    expected = ours.classify_batch(signal)[0]
    for log_probs, *_ in (
        half.classify_batch(signal),
        half.classify_file(write_wav(signal)),
    ):
        assert log_probs.dtype == torch.float32
        assert 0 < (log_probs - expected).abs().max() < 0.1
    output = half.analyse_batch(signal)
    assert output.ppg.dtype == output.frame_log_probs.dtype == torch.float32


def test_compiling_changes_no_result(ours, folder, sound, monkeypatch):
    wavs = sound(16_000)[None]
    expected = ours.classify_batch(wavs)[0]
    # Without a C++ compiler, which a tester need not have.
    eager = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", eager)
    compiled = load(folder, compile=True).classify_batch(wavs)
    assert close(compiled[0], expected)
    torch.compiler.reset()
    with pytest.raises(QieemoError, match="not for torch.jit"):
        load(folder, jit=True)


def test_a_device_may_change_later(folder, sound):
    ours = EncoderClassifier.from_hparams(folder)
    assert ours.qieemo.device == torch.device("cpu")
    ours.to("meta")
    assert ours.qieemo.device == torch.device("meta")


def test_a_program_around_it_may_train(folder, sound):
    ours = EncoderClassifier.from_hparams(folder)
    assert not any(p.requires_grad for p in ours.mods.parameters())
    expected = ours.classify_batch(sound(16_000))
    program = nn.ModuleList([ours]).train()
    assert not any(module.training for module in ours.mods.modules())
    for seed in range(5):
        ours.classify_batch(sound(16_000, seed))
    same(ours.classify_batch(sound(16_000)), expected)
    program.eval()
    same(ours.classify_batch(sound(16_000)), expected)


def test_an_unfrozen_model_learns(folder, sound):
    ours = EncoderClassifier.from_hparams(folder, freeze_params=False)
    ours.eval()  # in training, one clip alone is the mean of all
    ours.classify_batch(sound(16_000))[1].sum().backward()
    head = ours.mods["qieemo"].classifier.linear
    assert head.weight.grad.abs().sum() > 0


# Files of the web


@pytest.fixture
def web(tmp_path):
    """A server of files: its folder and its address."""
    root = tmp_path / "web"
    root.mkdir()
    handler = functools.partial(QuietHandler, directory=root)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_files_of_the_web(ours, web, write_wav, sound, tmp_path):
    root, address = web
    saved = tmp_path / "saved"
    for i, name in enumerate("ab"):
        (root / name).mkdir()
        write_wav(sound(16_000, i)).rename(root / name / "speech.wav")
    for name in "abab":
        url = f"{address}/{name}/speech.wav?key=1/2"
        found = ours.classify_file(url, savedir=saved)
        same(found, ours.classify_file(root / name / "speech.wav"))
    files = sorted(path.name for path in saved.rglob("*") if path.is_file())
    assert files == ["speech.wav", "speech.wav"]
    with pytest.raises(AudioError, match="gone.wav cannot be downloaded"):
        ours.classify_file(f"{address}/gone.wav", savedir=saved)
    assert not list(saved.rglob("gone*"))
    with pytest.raises(AudioError, match="give savedir"):
        ours.transcribe_file(f"{address}/gone.wav")


# Errors


@pytest.mark.parametrize(
    "wav_lens, message",
    [
        ([8_000.0, 16_000.0], "fractions"),
        ([1.0, -0.5], "row 1 is -0.5"),
        ([1.0, torch.inf], "row 1 is inf"),
        ([1.0, torch.nan], "row 1 is nan"),
        ([1.0, 0.01], "Utterance 1 of the batch has 160"),
        ([1.0], "must be 2 whole numbers"),
        ([[1.0], [1.0]], r"shape \[2, 1\]"),
        (1.0, r"shape \[\]"),
    ],
)
def test_lengths_that_cannot_be_used(ours, wav_lens, message):
    with pytest.raises(AudioError, match=message):
        ours.classify_batch(torch.zeros(2, 16_000), torch.tensor(wav_lens))


def test_waveforms_that_cannot_be_used(ours, sound):
    loud = torch.tensor([[1.0], [1e20]]) * torch.ones(16_000)
    not_a_number = torch.where(loud > 1, torch.nan, loud)
    for wavs, message in (
        (torch.zeros(0, 16_000), "no utterance"),
        (torch.zeros(1, 1, 16_000), r"must be \[B, S\]"),
        (loud, r"Utterances \[1\] .* beyond 1e\+15"),
        (not_a_number, r"Utterances \[1\]"),
        (torch.zeros(16_000, dtype=torch.int16), "divided by 32768"),
    ):
        with pytest.raises(AudioError, match=message):
            ours.classify_batch(wavs)
    with pytest.raises(QieemoError, match="without normalize"):
        ours.encode_batch(sound(16_000), normalize=True)


def test_files_that_cannot_be_used(ours, write_wav, tmp_path, no_network):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "corrupt.wav").write_bytes(b"RIFF" + b"\x07" * 100)
    write_wav(np.array([0.0, np.nan] * 800), name="nan.wav")
    write_wav(np.zeros(1), name="one.wav")
    for path, message in (
        ("no/such/gone.wav", "gone.wav does not exist"),
        (tmp_path / "empty.wav", "empty.wav is empty"),
        (tmp_path / "corrupt.wav", "corrupt.wav cannot be decoded"),
        (tmp_path / "nan.wav", "nan.wav holds samples that are NaN"),
        (str(tmp_path / "one.wav"), "one.wav is too short: 1 samples"),
    ):
        with pytest.raises(AudioError, match=message):
            ours.classify_file(path)


def test_moments_of_another_model(ours, sound):
    other = Moments.of(torch.randn(4, 3))
    with pytest.raises(QieemoError, match="adapt with this model"):
        ours.classify_batch(sound(16_000), speaker=other)


# Where a model comes from


def test_a_folder_needs_no_network_and_stays_as_it_is(
    folder, write_wav, sound, monkeypatch, tmp_path, no_network
):
    path = write_wav(sound(16_000))
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    here = tmp_path / "here"
    here.mkdir()
    for place, source in (
        (here, folder),
        (here, str(folder)),
        (folder.parent, "model"),
    ):
        monkeypatch.chdir(place)
        classifier = EncoderClassifier.from_hparams(source)
        assert classifier.classify_file(path)[3][0] in LABELS
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert os.listdir(here) == []


def test_savedir_gets_the_files(folder, tmp_path, no_network):
    saved = tmp_path / "saved"
    EncoderClassifier.from_hparams(folder, savedir=saved)
    expected = ["config.json", "label_encoder.txt", "model.safetensors"]
    assert sorted(os.listdir(saved)) == [*expected, "tokens.json"]
    assert EncoderClassifier.from_hparams(saved).labels == LABELS  # links


def test_a_model_of_a_hub(folder, tmp_path, monkeypatch):
    asked = []

    def download(filename, source, *_, **__):
        asked.append((str(source), filename))
        return folder / filename

    monkeypatch.setattr("qieemo_sb.serving.speechbrain.fetch", download)
    assert EncoderClassifier.from_hparams("some/model").labels == LABELS
    assert asked[:2] == [
        ("some/model", "config.json"),
        ("some/model", "label_encoder.txt"),
    ]


def test_a_model_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refuse(*_, **__):
        raise OSError("no such repository")

    monkeypatch.setattr("qieemo_sb.serving.speechbrain.fetch", refuse)
    for source, message in (
        (tmp_path / "gone", "gone is no folder"),
        ("results/model/gone", "gone is no folder"),
        ("some/where", "no folder some/where here.*no such repository"),
    ):
        with pytest.raises(ModelFolderError, match=message):
            EncoderClassifier.from_hparams(source)


def test_a_checkpoint_of_others(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    for savedir in (None, tmp_path / "saved"):
        with pytest.raises(ModelFolderError, match="Hugging Face checkpoint"):
            EncoderClassifier.from_hparams(tmp_path, savedir=savedir)
    assert os.listdir(tmp_path) == ["config.json"]

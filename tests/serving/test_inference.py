"""A bundle in use: SpeechBrain's answers, and one for every file."""

import functools
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
from qieemo_sb.errors import AudioError, ModelFolderError
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.speaker import adapted
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.model import Qieemo, QieemoOutput
from qieemo_sb.serving.bundle import save_bundle
from qieemo_sb.serving.onednn import Linear
from qieemo_sb.serving.speechbrain import EncoderClassifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model, make_labels):
    folder = tmp_path_factory.mktemp("model") / "bundle"
    return save_bundle(folder, make_model(), make_labels(), "")


@pytest.fixture(scope="module")
def ours(folder):
    return EncoderClassifier.from_hparams(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    return SpeechBrainEncoderClassifier.from_hparams(source=str(folder))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        pytest.fail("The network was asked.")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def same(ours, theirs):
    assert ours[3] == theirs[3]
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        assert torch.equal(a, b)


def test_face_of_the_package():
    assert qieemo_sb.EncoderClassifier is EncoderClassifier


# As SpeechBrain


def test_batch_as_speechbrain(ours, theirs, sound, pad):
    wavs, wav_lens = pad([sound(16_000, 1), sound(8_160, 2), sound(400, 3)])
    same(
        ours.classify_batch(wavs, wav_lens),
        theirs.classify_batch(wavs, wav_lens),
    )
    same(ours.classify_batch(wavs), theirs.classify_batch(wavs))
    same(ours.classify_batch(wavs[0]), theirs.classify_batch(wavs[0]))


def test_embeddings_as_speechbrain(ours, theirs, sound, pad):
    batch = pad([sound(16_000, 1), sound(8_160, 2)])
    embeddings = ours.encode_batch(*batch)
    assert embeddings.shape == (2, 24)
    assert torch.equal(embeddings, theirs.encode_batch(*batch))


@pytest.mark.parametrize(
    "rate, channels", [(16_000, 1), (8_000, 1), (44_100, 2), (48_000, 1)]
)
def test_file_as_speechbrain(ours, theirs, write_wav, rate, channels):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (rate, channels))
    path = write_wav(noise, rate)
    same(ours.classify_file(path), theirs.classify_file(str(path)))


@pytest.mark.parametrize(
    "samples", [np.zeros(16_000), np.ones(640_000), np.zeros(400)]
)
def test_odd_file_as_speechbrain(ours, theirs, write_wav, samples):
    path = write_wav(samples)
    answer = ours.classify_file(path)
    assert torch.isfinite(answer[0]).all()
    same(answer, theirs.classify_file(str(path)))


def test_answer_has_four_parts(ours, sound, pad):
    batch = pad([sound(16_000, 1), sound(8_160, 2)])
    log_probs, score, index, emotions = ours.classify_batch(*batch)
    assert log_probs.shape == (2, 4)
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(2))
    assert torch.equal(score, log_probs.amax(-1))
    assert torch.equal(index, log_probs.argmax(-1))
    assert emotions == [ours.labels[i] for i in index]


def test_call_is_classify_batch(ours, sound):
    wavs = sound(16_000)[None]
    same(ours(wavs), ours.classify_batch(wavs))


# More than SpeechBrain


def test_labels_in_the_order_of_outputs(ours):
    assert ours.labels == ["neu", "hap", "ang", "sad"]


def test_labels_out_of_order_in_their_file(folder, tmp_path, ours, sound):
    again = tmp_path / "again"
    again.mkdir()
    for name in os.listdir(folder):
        (again / name).write_bytes((folder / name).read_bytes())
    path = again / "label_encoder.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(
        "".join([lines[2], lines[0], lines[3], lines[1]] + lines[4:])
    )
    shuffled = EncoderClassifier.from_hparams(again)
    assert shuffled.labels == ours.labels
    wavs = sound(16_000)[None]
    same(shuffled.classify_batch(wavs), ours.classify_batch(wavs))


def test_frame_by_frame(ours, sound):
    out = ours.analyse_batch(sound(16_000))
    assert isinstance(out, QieemoOutput)
    assert out.frame_log_probs.shape == (1, 50, 4)
    assert out.ppg.shape == (1, 50, 29)
    assert not out.log_probs.requires_grad


def test_doubles_are_waveforms_too(ours, sound):
    wavs = sound(16_000)[None]
    expected = ours.encode_batch(wavs)
    assert torch.equal(ours.encode_batch(wavs.double()), expected)


def test_no_answer_depends_on_batch_mates(ours, sound, in_company):
    signal = sound(16_000, gain=0.01)
    alone = ours.classify_batch(signal)[0]
    company = ours.classify_batch(*in_company(signal))[0][:1]
    assert torch.allclose(company, alone, atol=1e-4)


def test_served_model_says_what_the_trained_one_says(
    ours, make_model, sound, pad
):
    batch = pad([sound(16_000, 1), sound(8_160, 2)])
    expected = make_model()(*batch).log_probs  # saved as it was made
    assert torch.allclose(ours.classify_batch(*batch)[0], expected, atol=1e-5)


def test_linear_layers_are_the_fast_ones(ours):
    layers = [m for m in ours.mods.modules() if isinstance(m, nn.Linear)]
    assert {type(layer) for layer in layers} == {Linear}


def test_long_files_are_never_whole(ours, write_wav, sound, monkeypatch):
    path = write_wav(sound(1_500_000))  # 93.75 s
    expected = ours.classify_batch(ours.load_audio(path))
    monkeypatch.setattr("qieemo_sb.audio.decode", pytest.fail)
    same(ours.classify_file(path), expected)


# Run options


def load(folder, **run_opts):
    return EncoderClassifier.from_hparams(folder, run_opts=run_opts)


def test_precision_is_autocast(ours, folder, sound, write_wav):
    signal = sound(16_000)
    half = load(folder, precision="bf16")
    answers = half.classify_batch(signal), half.classify_file(write_wav(signal))
    expected = ours.classify_batch(signal)[0]
    for log_probs, *_ in answers:
        assert log_probs.dtype == torch.float32
        assert 0 < (log_probs - expected).abs().max() < 0.1
    out = half.analyse_batch(signal)
    assert out.ppg.dtype == out.frame_log_probs.dtype == torch.float32


def test_compiling_changes_no_answer(ours, folder, sound, monkeypatch):
    # Without a C++ compiler, which a tester need not have.
    eager = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", eager)
    wavs = sound(16_000)[None]
    compiled = load(folder, compile=True).classify_batch(wavs)
    assert torch.allclose(compiled[0], ours.classify_batch(wavs)[0], atol=1e-5)
    torch.compiler.reset()


def test_compiled_whole_is_the_same(ours, folder, sound):
    qieemo = load(folder).mods.qieemo
    whole = torch.compile(qieemo, backend=pytest.fail)
    wavs = sound(16_000)[None]
    expected = ours.classify_batch(wavs)[0]
    assert torch.equal(whole(wavs, frame_wise=False).log_probs, expected)


def test_torch_jit_is_refused(folder):
    with pytest.raises(ValueError, match="not for torch.jit"):
        load(folder, jit=True)


# Many files


def test_many_files_as_one_by_one(ours, write_wav, sound):
    lengths = (16_000, 400, 500_000, 9_999, 30_000)
    paths = [write_wav(sound(n, seed=n), name=f"{n}.wav") for n in lengths]
    answers = list(ours.classify_files(paths, max_batch_seconds=2))
    assert len(answers) == 5
    for path, answer in zip(paths, answers, strict=True):
        expected = ours.classify_file(path)
        assert torch.allclose(answer[0], expected[0], atol=1e-5)
        assert [x.shape for x in answer[:3]] == [(1, 4), (1,), (1,)]
        assert answer[3] == expected[3]


def test_bad_files_do_not_stop_the_others(ours, write_wav, tmp_path):
    good = write_wav(np.zeros(800), name="good.wav")
    short = write_wav(np.zeros(1), name="short.wav")
    nan = write_wav(np.full(500_000, np.nan), name="nan.wav")
    paths = [tmp_path / "gone.wav", good, short, nan, good]
    gone, first, one, long, last = ours.classify_files(paths)
    assert torch.allclose(first[0], last[0], atol=1e-5)
    for error, name in ((gone, "gone"), (one, "short"), (long, "nan")):
        assert isinstance(error, AudioError)
        assert f"{name}.wav" in str(error)


def test_answers_come_while_files_are_still_named(ours, write_wav, monkeypatch):
    monkeypatch.setattr("qieemo_sb.serving.speechbrain.FILES_AT_ONCE", 2)
    path = write_wav(np.zeros(800))
    named = iter([path, path, path, "never named"])
    answers = ours.classify_files(named)
    assert len(next(answers)) == 4
    assert list(named) == [path, "never named"]


@pytest.fixture
def turns(write_wav, sound):
    """Three files of ann's, two of bob's."""
    names = ["ann", "bob", "ann", "ann", "bob"]
    wavs = [
        write_wav(sound(6_000 + 1_000 * i, i, 0.02 * (i + 1)), name=f"{i}.wav")
        for i in range(5)
    ]
    return wavs, names


def test_adapted_to_a_speaker(ours, turns):
    wavs, _ = turns
    vectors = torch.cat(
        [ours.encode_batch(ours.load_audio(wav)) for wav in wavs[:3]]
    )
    own = Moments.of(vectors)
    prior = ours.mods.classifier.standard.moments
    speaker = ours.adapt(wavs[:3])
    assert torch.allclose(speaker.mean, adapted(prior, own).mean, atol=1e-5)
    unknown, known = (
        ours.classify_file(wavs[4]),
        ours.classify_file(wavs[4], speaker=speaker),
    )
    assert not torch.allclose(unknown[0], known[0])
    sound = ours.load_audio(wavs[4])
    for found in (
        ours.classify_batch(sound, speaker=speaker),
        *ours.classify_files([wavs[4]], speaker=speaker),
    ):
        assert torch.allclose(found[0], known[0], atol=1e-5)


def test_a_conversation_adapts_to_each_speaker(ours, turns):
    wavs, names = turns
    found = ours.classify_conversation(wavs, names)
    for name in ("ann", "bob"):
        own = [w for w, n in zip(wavs, names, strict=True) if n == name]
        speaker = ours.adapt(own)
        for wav in own:
            expected = ours.classify_file(wav, speaker=speaker)
            answer = found[wavs.index(wav)]
            assert torch.allclose(answer[0], expected[0], atol=1e-5)
            assert answer[3] == expected[3]


def test_what_others_say_does_not_matter(ours, turns):
    wavs, names = turns
    found = ours.classify_conversation(wavs, names)
    alone = ours.classify_conversation(wavs[1::3], names[1::3])  # bob's
    for a, b in zip(found[1::3], alone, strict=True):
        assert torch.allclose(a[0], b[0], atol=1e-5)


def test_a_bad_turn_is_told_and_does_not_count(ours, turns, tmp_path):
    wavs, names = turns
    bad = tmp_path / "missing.wav"
    found = ours.classify_conversation([bad, *wavs], ["ann", *names])
    assert isinstance(found[0], AudioError) and "missing.wav" in str(found[0])
    expected = ours.classify_conversation(wavs, names)
    for a, b in zip(found[1:], expected, strict=True):
        assert torch.allclose(a[0], b[0], atol=1e-5)


def test_what_cannot_be_adapted_to(ours, turns, tmp_path):
    wavs, names = turns
    with pytest.raises(AudioError, match="missing.wav"):
        ours.adapt([wavs[0], tmp_path / "missing.wav"])
    with pytest.raises(ValueError, match="at least one"):
        ours.adapt([])
    with pytest.raises(ValueError, match="5 files, but 4 speakers"):
        ours.classify_conversation(wavs, names[1:])


def test_a_single_name_is_no_list(ours, turns):
    wavs, _ = turns
    for one in (str(wavs[0]), wavs[0]):
        with pytest.raises(TypeError, match="list is needed"):
            ours.adapt(one)
        with pytest.raises(TypeError, match="list is needed"):
            next(ours.classify_files(one))
    with pytest.raises(TypeError, match="'ann'"):
        ours.classify_conversation(wavs[:3], "ann")


def test_a_speaker_is_kept(ours, turns, tmp_path):
    wavs, _ = turns
    ann = ours.adapt(wavs)
    torch.save(ann, tmp_path / "ann.pt")
    kept = torch.load(tmp_path / "ann.pt", weights_only=True)
    same(
        ours.classify_file(wavs[0], speaker=ann),
        ours.classify_file(wavs[0], speaker=kept),
    )


def test_a_speaker_of_another_model(ours, sound):
    with pytest.raises(ValueError, match="adapt with this model"):
        ours.classify_batch(
            sound(16_000), speaker=Moments.of(torch.randn(4, 3))
        )


def test_no_files(ours):
    assert list(ours.classify_files([])) == []


def test_nothing_trains(ours):
    assert not any(p.requires_grad for p in ours.mods.parameters())
    assert not any(m.training for m in ours.mods.modules())


def test_a_program_around_it_may_train(folder, sound):
    ours = EncoderClassifier.from_hparams(folder)
    expected = ours.classify_batch(sound(16_000))
    program = nn.ModuleList([ours]).train()
    for seed in range(5):
        ours.classify_batch(sound(16_000, seed))
    same(ours.classify_batch(sound(16_000)), expected)
    program.eval()
    same(ours.classify_batch(sound(16_000)), expected)


def test_what_is_not_frozen_learns(folder, sound):
    ours = EncoderClassifier.from_hparams(folder, freeze_params=False)
    ours.eval()  # in training, one clip alone is the mean of all
    ours.classify_batch(sound(16_000))[1].sum().backward()
    head = ours.mods["qieemo"].classifier.linear
    assert head.weight.grad.abs().sum() > 0


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
    for i, name in enumerate("ab"):
        (root / name).mkdir()
        write_wav(sound(16_000, i)).rename(root / name / "speech.wav")
    saved = tmp_path / "saved"
    for name in "abab":
        url = f"{address}/{name}/speech.wav?key=1/2"
        found = ours.classify_file(url, savedir=saved)
        same(found, ours.classify_file(root / name / "speech.wav"))
    names = sorted(path.name for path in saved.rglob("*.*"))
    assert names == ["speech.wav", "speech.wav"]


def test_file_that_the_web_has_not(ours, web, tmp_path):
    _, address = web
    with pytest.raises(AudioError, match="gone.wav cannot be downloaded"):
        ours.classify_file(f"{address}/gone.wav", savedir=tmp_path / "saved")
    assert not list((tmp_path / "saved").rglob("*.wav"))
    with pytest.raises(ValueError, match="give savedir"):
        ours.classify_file(f"{address}/gone.wav")


# Errors


@pytest.mark.parametrize(
    "kind", [torch.int16, torch.int32, torch.uint8, torch.bool]
)
def test_integers_are_no_waveform(ours, sound, kind):
    with pytest.raises(ValueError, match="divided by 32768"):
        ours.classify_batch((sound(16_000) * 32_768).to(kind))


@pytest.mark.parametrize(
    "wav_lens, message",
    [
        ([8_000.0, 16_000.0], "fractions"),
        ([1.0, -0.5], "row 1 is -0.5"),
        ([1.0, torch.inf], "row 1 is inf"),
        ([1.0, torch.nan], "row 1 is nan"),
        ([1.0], r"must be \[2\]"),
        ([[1.0], [1.0]], r"shape \[2, 1\]"),
        (1.0, r"shape \[\]"),
    ],
)
def test_lengths_that_are_none(ours, wav_lens, message):
    with pytest.raises(ValueError, match=message):
        ours.classify_batch(torch.zeros(2, 16_000), torch.tensor(wav_lens))


def test_empty_batch(ours):
    with pytest.raises(ValueError, match="no utterance"):
        ours.classify_batch(torch.zeros(0, 16_000))


def test_too_loud_for_a_spectrum(ours):
    with pytest.raises(ValueError, match=r"Utterances \[1\] .* beyond 1e\+15"):
        ours.classify_batch(torch.tensor([[1.0], [1e20]]) * torch.ones(16_000))


def test_embeddings_are_not_normalised(ours, sound):
    with pytest.raises(ValueError, match="without normalize"):
        ours.encode_batch(sound(16_000), normalize=True)


def test_nan_in_a_batch(ours):
    wavs = torch.zeros(3, 16_000)
    wavs[1, 5] = torch.nan
    with pytest.raises(ValueError, match=r"Utterances \[1\]"):
        ours.classify_batch(wavs)


def test_short_row_in_a_batch(ours):
    with pytest.raises(ValueError, match="Utterance 1 of the batch has 160"):
        ours.classify_batch(torch.zeros(2, 1_600), torch.tensor([1.0, 0.1]))


def test_missing_audio(ours, tmp_path, no_network):
    for path in (tmp_path / "gone.wav", "no/such/gone.wav", "gone.wav"):
        with pytest.raises(AudioError, match="gone.wav does not exist"):
            ours.classify_file(path)


def test_empty_audio(ours, tmp_path):
    path = tmp_path / "empty.wav"
    path.touch()
    with pytest.raises(AudioError, match="empty.wav is empty"):
        ours.classify_file(path)


def test_corrupt_audio(ours, tmp_path):
    path = tmp_path / "corrupt.wav"
    path.write_bytes(b"RIFF" + b"\x07" * 100)
    with pytest.raises(AudioError, match="corrupt.wav cannot be decoded"):
        ours.classify_file(path)


def test_audio_that_is_no_number(ours, write_wav):
    path = write_wav(np.array([0.0, np.nan] * 800), name="nan.wav")
    with pytest.raises(AudioError, match="nan.wav holds samples that are NaN"):
        ours.classify_file(path)


def test_audio_of_one_sample(ours, write_wav):
    path = write_wav(np.zeros(1), name="one.wav")
    with pytest.raises(AudioError, match="one.wav is too short: 1 samples"):
        ours.classify_file(str(path))


# Where a bundle comes from


def test_network_is_not_used(folder, write_wav, sound, no_network):
    path = write_wav(sound(16_000))
    for source in (folder, str(folder)):
        classifier = EncoderClassifier.from_hparams(source)
        assert classifier.classify_file(path)[3][0] in classifier.labels


def test_folder_named_from_here(folder, monkeypatch, no_network):
    monkeypatch.chdir(folder.parent)
    assert EncoderClassifier.from_hparams("bundle").labels[0] == "neu"


def test_loading_leaves_the_folder_as_it_was(folder, monkeypatch, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    monkeypatch.chdir(tmp_path)
    EncoderClassifier.from_hparams(folder)
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert os.listdir(tmp_path) == []


def test_savedir_gets_the_files(folder, tmp_path, no_network):
    saved = tmp_path / "saved"
    EncoderClassifier.from_hparams(folder, savedir=saved)
    expected = ["hyperparams.yaml", "label_encoder.txt", "model.safetensors"]
    assert sorted(os.listdir(saved)) == expected
    assert EncoderClassifier.from_hparams(saved).labels[0] == "neu"


def test_overrides_change_the_yaml(folder):
    classifier = EncoderClassifier.from_hparams(
        folder, overrides={"sample_rate": 8_000}
    )
    assert classifier.hparams.sample_rate == 8_000


def test_override_of_nothing(folder):
    with pytest.raises((KeyError, ValueError), match="typo"):
        EncoderClassifier.from_hparams(folder, overrides={"typo": 1})


@pytest.mark.parametrize("relative", [True, False])
def test_missing_folder(tmp_path, monkeypatch, no_network, relative):
    monkeypatch.chdir(tmp_path)
    source = "results/model/gone" if relative else tmp_path / "gone"
    with pytest.raises(ModelFolderError, match="gone"):
        EncoderClassifier.from_hparams(source)


# -- What is said ----------------------------------------------------------


@pytest.fixture
def reading(tmp_path, make_model, make_labels):
    """A classifier whose PPG has tokens."""
    folder = save_bundle(
        tmp_path / "r", make_model(), make_labels(), "", Characters()
    )
    return EncoderClassifier.from_hparams(folder)


@pytest.fixture
def reader(tmp_path, make_model):
    """A model of stage 1."""
    whole = make_model()
    model = Qieemo(encoder=whole.encoder, ppg_head=whole.ppg_head).eval()
    folder = save_bundle(tmp_path / "r1", model, None, "", Characters())
    return EncoderClassifier.from_hparams(folder)


def test_ppg_rows_sum_to_one_and_stop_at_the_length(reading, sound, pad):
    wavs, lens = pad([sound(16_000), sound(8_000)])
    ppg = reading.ppg_batch(wavs, lens)
    assert ppg.posteriors.shape == (2, 50, 29)
    assert torch.allclose(ppg.posteriors[0].sum(-1), torch.ones(50))
    assert torch.allclose(ppg.posteriors[1, :25].sum(-1), torch.ones(25))
    assert ppg.posteriors[1, 25:].abs().max() == 0
    assert ppg.times[[0, 1, 49]].tolist() == pytest.approx([0, 0.02, 0.98])
    assert ppg.tokens == Characters().names


def test_a_transcript_does_not_depend_on_batch_mates(
    reading, sound, in_company
):
    signal = sound(12_345)
    wavs, lens = in_company(signal)
    alone, indices = reading.transcribe_batch(signal)
    assert reading.transcribe_batch(wavs, lens)[0][0] == alone[0]
    assert alone[0] == Characters().decode_ids(indices[0]) != ""


def test_a_file_is_transcribed(reading, sound, write_wav):
    signal = sound(16_000)
    path = write_wav(signal.numpy())
    assert (
        reading.transcribe_file(path) == reading.transcribe_batch(signal)[0][0]
    )


def test_a_ppg_that_was_not_trained_does_not_transcribe(bundle, sound):
    classifier = EncoderClassifier.from_hparams(bundle)
    with pytest.raises(ModelFolderError, match="not trained to read"):
        classifier.transcribe_batch(sound(16_000))


def test_stage_one_transcribes_and_knows_no_emotion(reader, sound):
    assert isinstance(reader.transcribe_batch(sound(16_000))[0][0], str)
    for ask in (reader.classify_batch, reader.encode_batch):
        with pytest.raises(ModelFolderError, match="knows no emotion"):
            ask(sound(16_000))

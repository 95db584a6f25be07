"""An export in use: the torch model's answers, and no torch."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx.parser
import pytest
import torch

import qieemo_sb
from qieemo_sb.errors import AudioError, ModelFolderError, QieemoError
from qieemo_sb.serving.folder import sha256, write_labels
from qieemo_sb.serving.onnx.classifier import OnnxClassifier
from qieemo_sb.serving.speechbrain import EncoderClassifier


@pytest.fixture
def batch(pad):
    """Make a batch with relative lengths, as SpeechBrain has them."""

    def make(signals):
        wavs, lengths = pad(signals)
        return wavs, lengths / lengths.max()

    return make


@pytest.fixture(scope="module")
def ours(exported):
    return OnnxClassifier.from_folder(exported)


@pytest.fixture(scope="module")
def theirs(source):
    """The torch model's."""
    return EncoderClassifier.from_hparams(source)


def assert_same(ours, theirs):
    assert ours[3] == theirs[3]
    assert ours[2].tolist() == theirs[2].tolist()
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert a.dtype == np.float32
        assert a.shape == b.shape
        assert np.abs(a - b.numpy()).max() < 1e-4


def test_face_of_the_package():
    assert qieemo_sb.OnnxClassifier is OnnxClassifier


def test_unknown_below_the_threshold(exported, ours, write_wav, sound):
    path = write_wav(sound(16_000))
    log_probs, score, _, (emotion,) = ours.classify_file(path)
    best = float(np.exp(score[0]))
    for threshold, expected in (
        (best - 1e-4, emotion),
        (best + 1e-4, "unknown"),
    ):
        doubting = OnnxClassifier.from_folder(exported, threshold=threshold)
        found = doubting.classify_file(path)
        assert found[3] == [expected]
        assert np.array_equal(found[0], log_probs)
    with pytest.raises(QieemoError, match="threshold is 50"):
        OnnxClassifier.from_folder(exported, threshold=50)


# As EncoderClassifier


def test_batch_as_with_torch(ours, theirs, sound, batch):
    wavs, wav_lens = batch([sound(16_000, 1), sound(8_160, 2), sound(400, 3)])
    for lengths in (wav_lens, None):
        found = ours.classify_batch(
            wavs.numpy(), None if lengths is None else lengths.numpy()
        )
        assert_same(found, theirs.classify_batch(wavs, lengths))
    alone = ours.classify_batch(wavs[0].numpy())
    assert_same(alone, theirs.classify_batch(wavs[0]))


@pytest.mark.parametrize(
    "rate, channels", [(16_000, 1), (8_000, 1), (44_100, 2), (48_000, 1)]
)
def test_file_as_with_torch(ours, theirs, write_wav, rate, channels):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (rate, channels))
    path = write_wav(noise, rate)
    assert_same(ours.classify_file(path), theirs.classify_file(path))


@pytest.mark.parametrize(
    "samples", [np.zeros(16_000), np.ones(640_000), np.zeros(400)]
)
def test_odd_file_as_with_torch(ours, theirs, write_wav, samples):
    path = write_wav(samples)
    assert_same(ours.classify_file(path), theirs.classify_file(path))


def test_embeddings_as_with_torch(ours, theirs, sound, batch):
    wavs, wav_lens = batch([sound(16_000, 1), sound(8_160, 2)])
    found = ours.encode_batch(wavs.numpy(), wav_lens.numpy())
    expected = theirs.encode_batch(wavs, wav_lens).numpy()
    assert np.abs(found - expected).max() < 1e-4


def test_everything_as_with_torch(ours, theirs, sound):
    signal = sound(16_000)
    found, expected = ours.analyse(signal.numpy()), theirs.analyse_batch(signal)
    for name in ("log_probs", "embedding", "ppg"):
        value = getattr(expected, name).numpy()
        assert np.abs(getattr(found, name) - value).max() < 1e-4


# A batch is its utterances


def test_list_of_any_lengths_is_a_batch(ours, sound, batch):
    signals = [sound(16_000, 1), sound(8_160, 2), sound(400, 3)]
    wavs, wav_lens = batch(signals)
    padded = ours.classify_batch(wavs.numpy(), wav_lens.numpy())
    listed = ours.classify_batch([signal.numpy() for signal in signals])
    assert np.array_equal(listed[0], padded[0])
    for row, signal in enumerate(signals):
        alone = ours.classify_batch(signal.numpy())
        assert np.array_equal(alone[0][0], listed[0][row])


def test_what_lies_past_the_end_changes_nothing(ours, sound, batch):
    wavs, wav_lens = batch([sound(16_000), sound(9_000)])
    clean = ours.classify_batch(wavs.numpy(), wav_lens.numpy())
    wavs[1, 9_000:] = torch.nan
    again = ours.classify_batch(wavs.numpy(), wav_lens.numpy())
    assert np.array_equal(clean[0], again[0])


def test_doubles_and_lists_are_waveforms_too(ours, sound):
    signal = sound(1_600).numpy()
    expected = ours.classify_batch(signal)[0]
    for other in (signal.astype(np.float64), signal.tolist(), [signal]):
        assert np.array_equal(ours.classify_batch(other)[0], expected)


def test_threads_are_those_asked_for(exported):
    session = OnnxClassifier.from_folder(exported, threads=1).session
    assert session.get_session_options().intra_op_num_threads == 1


# Errors


def test_nan_in_a_batch(ours, theirs):
    wavs = torch.zeros(3, 16_000)
    wavs[1, 5] = torch.nan
    with pytest.raises(ValueError, match=r"Utterances \[1\]") as found:
        ours.classify_batch(wavs.numpy())
    with pytest.raises(ValueError) as expected:
        theirs.classify_batch(wavs)
    assert str(found.value) == str(expected.value)


def test_no_samples(ours):
    for classify in (ours.analyse, ours.classify_batch):
        with pytest.raises(ValueError, match="0 samples"):
            classify(np.zeros(0, dtype=np.float32))


def test_one_utterance_is_analysed(ours):
    with pytest.raises(ValueError, match=r"not \(1, 2, 16000\)"):
        ours.analyse(np.zeros((2, 16_000), dtype=np.float32))


def test_integers_are_no_waveform(ours):
    with pytest.raises(ValueError, match="divided by 32768"):
        ours.classify_batch(np.ones(16_000, np.int16))


@pytest.mark.parametrize(
    "wav_lens, message",
    [
        ([1.0, -0.5], "Utterance 1 of the batch has -8000"),
        ([16_000, 8_000], "at most 16000 are there"),
        ([1.0], "must be 2 whole numbers"),
        (1.0, "wav_lens must be numbers"),
        ([[1.0], [1.0]], "wav_lens must be numbers"),
        (["long", "short"], "wav_lens must be numbers"),
        ([float("nan"), 1.0], "wav_lens must be numbers"),
        ([float("inf"), 1.0], "wav_lens must be numbers"),
    ],
)
def test_lengths_that_do_not_fit(ours, wav_lens, message):
    with pytest.raises(AudioError, match=message):
        ours.classify_batch(np.zeros((2, 16_000), np.float32), wav_lens)


@pytest.mark.parametrize(
    "wavs, message",
    [
        (None, "wavs and wav_lens must be numbers"),
        (1.0, "wavs and wav_lens must be numbers"),
        ({"a": 1}, "wavs and wav_lens must be numbers"),
        ("a.wav", "Waveforms must be"),
        ([10**400] * 400, "Waveforms are object"),
        ([None] * 400, "Waveforms are object"),
        ([[0.0] * 400, 3.0], "Waveforms must be"),
    ],
)
def test_batches_of_something_else(ours, wavs, message):
    for call in (ours.classify_batch, ours.encode_batch):
        with pytest.raises(AudioError, match=message):
            call(wavs)


def test_rows_of_more_than_samples(ours):
    with pytest.raises(ValueError, match=r"not \(1, 16000, 1\)"):
        ours.classify_batch(np.zeros((1, 16_000, 1), np.float32))


def test_too_loud_for_a_spectrum(ours):
    with pytest.raises(ValueError, match="beyond 1e"):
        ours.classify_batch(np.full(16_000, 1e20, np.float32))


def test_short_row_in_a_batch(ours):
    wavs = np.zeros((2, 1_600), np.float32)
    with pytest.raises(ValueError, match="Utterance 1 of the batch has 160"):
        ours.classify_batch(wavs, np.array([1.0, 0.1]))


def test_missing_audio(ours, tmp_path):
    with pytest.raises(AudioError, match="gone.wav does not exist"):
        ours.classify_file(tmp_path / "gone.wav")


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.onnx.data", "label_encoder.txt"]
)
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        OnnxClassifier.from_folder(folder)


def test_missing_folder(tmp_path):
    with pytest.raises(ModelFolderError, match="gone is no ONNX export"):
        OnnxClassifier.from_folder(tmp_path / "gone")


@pytest.mark.parametrize(
    "name, message",
    [
        ("model.onnx", "model.onnx is damaged.*export.json"),
        ("label_encoder.txt", "label_encoder.txt is damaged.*export.json"),
        ("model.onnx.data", "model.onnx.data is damaged.*export.json"),
    ],
)
def test_truncated_file(folder, name, message):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match=message):
        OnnxClassifier.from_folder(folder)


def change(folder, **values):
    """Change values of export.json."""
    path = folder / "export.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, **values}))


def sign(folder):
    """Make the checksums of the files those that they have now."""
    names = json.loads((folder / "export.json").read_text())["sha256"]
    del names["export.json"]
    change(folder, sha256={name: sha256(folder / name) for name in names})


def test_graph_that_is_none(folder):
    (folder / "model.onnx").write_bytes(b"graph")
    sign(folder)
    with pytest.raises(ModelFolderError, match="model.onnx is damaged"):
        OnnxClassifier.from_folder(folder)


def test_a_changed_value_is_damage(folder):
    change(folder, weights="int8")
    with pytest.raises(ModelFolderError, match="export.json is damaged"):
        OnnxClassifier.from_folder(folder)


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.onnx.data", "label_encoder.txt"]
)
def test_a_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelFolderError, match=name):
        OnnxClassifier.from_folder(folder)


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    path = folder / "label_encoder.txt"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelFolderError, match="label_encoder.txt is a link"):
        OnnxClassifier.from_folder(folder)


GRAPHS = {
    "lacks the embedding": """
        g (float[1, S] wav) => (float[1, 4] log_probs) {
            log_probs = Constant <value = float[1, 4] {1, 1, 1, 1}> ()
        }""",
    "not finite": """
        g (float[1, S] wav) => (float[1, 4] log_probs, float[1, 1] embedding) {
            zero = ReduceMax <keepdims = 1> (wav)
            embedding = Log (zero)
            one = Constant <value = float[1, 4] {1, 1, 1, 1}> ()
            log_probs = Mul (embedding, one)
        }""",
    "input of any shape": """
        g (float[1, S] wav, float[N] a) => (float[1, 4] log_probs) {
            log_probs = Constant <value = float[1, 4] {1, 1, 1, 1}> ()
        }""",
    "terminate": """
        g (float[1, S] wav) => (float[1, S] log_probs, float[1, S] embedding) {
            for_ever = Constant <value = int64 {9223372036854775807}> ()
            go_on = Constant <value = bool {1}> ()
            log_probs = Loop (for_ever, go_on, wav) <body = b (
                int64 i, bool before, float[1, S] x) => (
                bool after, float[1, S] y) {
                after = Identity (before)
                y = Sin (x)
            }>
            embedding = Identity (wav)
        }""",
}


@pytest.mark.parametrize("fault", GRAPHS)
def test_graph_that_does_not_work(folder, fault, monkeypatch):
    text = f'<ir_version: 8, opset_import: ["" : 20]>{GRAPHS[fault]}'
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    sign(folder)
    monkeypatch.setattr("qieemo_sb.serving.onnx.classifier.SECONDS", 0.3)
    message = {"terminate": "terminate", "not finite": "not finite"}
    found = f"model.onnx is damaged.*{message.get(fault, '')}"
    with pytest.raises(ModelFolderError, match=found):
        OnnxClassifier.from_folder(folder)


def test_labels_of_another_model(folder):
    write_labels(folder / "label_encoder.txt", ["a", "b"])
    sign(folder)
    with pytest.raises(ModelFolderError, match="has 2 names, the model has 4"):
        OnnxClassifier.from_folder(folder)


def test_export_of_another_release(folder):
    change(folder, format=1)
    with pytest.raises(ModelFolderError, match="export the model again"):
        OnnxClassifier.from_folder(folder)
    (folder / "export.json").unlink()  # the first format had none
    with pytest.raises(ModelFolderError, match="export the model again"):
        OnnxClassifier.from_folder(folder)


def test_without_onnxruntime(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'qieemo-sb\[onnx\]'"):
        OnnxClassifier.from_folder(folder)


# Without torch

WITHOUT = """
import sys
import numpy as np
from qieemo_sb import OnnxClassifier
classifier = OnnxClassifier.from_folder(sys.argv[1])
print(*classifier.classify_batch(np.zeros(16_000))[3])
print(*sorted({"torch", "speechbrain", "transformers", "scipy", "onnx"}
              & sys.modules.keys()))
"""


def test_nothing_heavy_is_imported(folder, ours):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    emotion = ours.classify_batch(np.zeros(16_000))[3][0]
    assert done.stdout == f"{emotion}\n\n"
    assert done.stderr == ""

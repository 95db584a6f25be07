"""A trained model in a program: one result for every file."""

import numpy as np
import pytest
import torch

import qieemo_sb
from qieemo_sb.errors import AudioError, ModelFolderError, QieemoError
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.speaker import SpeakerModel, adapted, speaker_moments
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.model import PPGModel, PPGOutput, QieemoOutput
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.onednn import OneDNNLinear

LABELS = ["neu", "hap", "ang", "sad"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model):
    folder = tmp_path_factory.mktemp("classifier") / "model"
    return save_model(folder, make_model(), "", LABELS, Characters())


@pytest.fixture(scope="module")
def ours(folder):
    return load_model(folder)


@pytest.fixture
def reader(tmp_path, make_model):
    """A model of stage 1."""
    whole = make_model()
    model = PPGModel(whole.encoder, whole.ppg_head)
    return load_model(save_model(tmp_path / "m", model, "", None, Characters()))


@pytest.fixture
def turns(write_wav, sound):
    """Three files of ann's, two of bob's."""
    wavs = [
        write_wav(sound(6_000 + 1_000 * i, i, 0.02 * (i + 1)), name=f"{i}.wav")
        for i in range(5)
    ]
    return wavs, ["ann", "bob", "ann", "ann", "bob"]


def scores(predictions):
    """[N, C] probabilities."""
    return torch.tensor([list(p.scores.values()) for p in predictions])


def close(a, b):
    return torch.allclose(a, b, atol=1e-5)


def test_it_is_the_trained_model_in_eval_mode(ours, make_model, sound, pad):
    batch = pad([sound(16_000, 1), sound(8_160, 2)])
    expected = make_model()(*batch)  # saved as it was made
    output = ours.analyse_batch(*batch)
    assert isinstance(output, QieemoOutput)
    assert close(output.log_probs, expected.log_probs)
    assert close(output.frame_log_probs, expected.frame_log_probs)
    assert not output.log_probs.requires_grad
    assert not any(p.requires_grad for p in ours.model.parameters())
    assert not any(module.training for module in ours.model.modules())
    layers = [m for m in ours.model.modules() if hasattr(m, "in_features")]
    assert {type(layer) for layer in layers} == {OneDNNLinear}
    assert qieemo_sb.load_model is load_model


def test_a_prediction(ours, write_wav, sound):
    path = write_wav(sound(16_000))
    (prediction,) = ours([path])
    log_probs = ours.log_probs(ours.embed_batch(sound(16_000)))[0]
    assert prediction.file == str(path)
    assert prediction.emotion == LABELS[int(log_probs.argmax())]
    assert list(prediction.scores) == LABELS
    assert close(scores([prediction])[0], log_probs.exp())
    assert sum(prediction.scores.values()) == pytest.approx(1)
    assert (prediction.start, prediction.end) == (0, 1)


def test_unknown_below_the_threshold(folder, ours, write_wav, sound):
    path = write_wav(sound(16_000))
    (before,) = ours([path])
    best = max(before.scores.values())
    for threshold, emotion in (
        (best - 1e-4, before.emotion),
        (best + 1e-4, "unknown"),
    ):
        (found,) = load_model(folder, threshold=threshold)([path])
        assert (found.emotion, found.scores) == (emotion, before.scores)


@pytest.mark.parametrize("threshold", [-0.1, 50, float("nan")])
def test_a_threshold_that_is_no_probability(folder, threshold):
    with pytest.raises(QieemoError, match="threshold is .* 0 to 1"):
        load_model(folder, threshold=threshold)


def test_any_precision_and_a_single_waveform(ours, sound):
    wav = sound(16_000)
    expected = ours.embed_batch(wav[None])
    assert torch.equal(ours.embed_batch(wav.double()), expected)
    rounded = ours.embed_batch(wav.half().float())
    assert torch.equal(ours.embed_batch(wav.half()), rounded)


@pytest.mark.parametrize("kind", [torch.int16, torch.uint8, torch.bool])
def test_integers_are_no_waveform(kind, ours, sound):
    with pytest.raises(AudioError, match="divided by 32768"):
        ours.embed_batch((sound(16_000) * 32_768).to(kind))


def test_no_result_depends_on_batch_mates(ours, sound, in_company):
    signal = sound(16_000, gain=0.01)
    alone, batch = ours.embed_batch(signal), in_company(signal)
    assert close(ours.embed_batch(*batch)[:1], alone)
    texts, indices = ours.transcribe_batch(signal)
    assert ours.transcribe_batch(*batch)[0][0] == texts[0] != ""
    assert texts[0] == Characters().decode_ids(indices[0])


# Files


def test_many_files_as_one_by_one(ours, write_wav, sound, monkeypatch):
    lengths = (16_000, 400, 500_000, 9_999, 30_000)
    paths = [write_wav(sound(n, seed=n), name=f"{n}.wav") for n in lengths]
    monkeypatch.setattr(ours, "max_batch_seconds", 2.0)
    predictions = list(ours.predict(paths))
    assert [p.file for p in predictions] == list(map(str, paths))
    vectors = torch.cat([ours.embed_file(path) for path in paths])
    assert close(scores(predictions), ours.log_probs(vectors).exp())


def test_bad_files_do_not_stop_the_others(ours, write_wav, tmp_path):
    good = write_wav(np.zeros(800), name="good.wav")
    short = write_wav(np.zeros(1), name="short.wav")
    nan = write_wav(np.full(500_000, np.nan), name="nan.wav")
    paths = [tmp_path / "gone.wav", good, short, nan, good]
    gone, first, one, long, last = ours.predict(paths)
    assert close(scores([first]), scores([last]))
    for error, name in ((gone, "gone"), (one, "short"), (long, "nan")):
        assert isinstance(error, AudioError)
        assert f"{name}.wav" in str(error)
    with pytest.raises(AudioError, match="gone.wav"):
        ours(paths)
    assert list(ours.predict([])) == []


def test_a_long_file_is_never_whole(ours, write_wav, sound, monkeypatch):
    wav = sound(1_500_000)  # 93.75 s
    path = write_wav(wav)
    expected = ours.embed_batch(wav)
    monkeypatch.setattr("qieemo_sb.audio.read_audio", pytest.fail)
    assert close(ours.embed_file(path), expected)
    assert len(ours([path])) == 1


def test_results_come_while_files_are_still_named(ours, write_wav, monkeypatch):
    monkeypatch.setattr(f"{load_model.__module__}.FILES_AT_ONCE", 2)
    path = write_wav(np.zeros(800))
    named = iter([path, path, path, "never named"])
    assert next(ours.predict(named)).file == str(path)
    assert list(named) == [path, "never named"]


# Speakers


def test_adapted_to_a_speaker(ours, turns):
    wavs, _ = turns
    vectors = torch.cat([ours.embed_file(wav) for wav in wavs[:3]])
    prior = ours.model.classifier.standard.moments
    speaker = ours.adapt(wavs[:3])
    assert close(speaker.mean, adapted(prior, Moments.of(vectors)).mean)
    unknown = scores(ours.predict(wavs[4:]))
    known = scores(ours.predict(wavs[4:], speaker=speaker))
    assert not close(unknown, known)
    vector = ours.embed_file(wavs[4])
    assert close(ours.log_probs(vector, speaker).exp(), known)


def test_a_speaker_model_takes_part(tmp_path, make_model, turns):
    wavs, _ = turns
    model, speakers = make_model(), SpeakerModel(24, 4)
    for buffer in (speakers.content, speakers.emotions):
        torch.nn.init.normal_(buffer)
    model.speaker_model = speakers  # as training does
    loaded = load_model(save_model(tmp_path / "m", model, "", LABELS))
    vectors = torch.cat([loaded.embed_file(wav) for wav in wavs])
    expected = speaker_moments(vectors, model.classifier, speakers)
    assert close(loaded.adapt(wavs).mean, expected.mean)


def test_a_conversation_adapts_to_each_speaker(ours, turns, tmp_path):
    wavs, names = turns
    bad = tmp_path / "missing.wav"  # an error in its place, and no voice
    error, *found = ours.predict_conversation([bad, *wavs], ["ann", *names])
    assert isinstance(error, AudioError) and "missing.wav" in str(error)
    assert [p.speaker for p in found] == names
    for name in ("ann", "bob"):
        places = [i for i, other in enumerate(names) if other == name]
        own = [wavs[i] for i in places]
        expected = scores(ours.predict(own, speaker=ours.adapt(own)))
        assert close(scores([found[i] for i in places]), expected)


def test_a_speaker_is_kept(ours, turns, tmp_path):
    wavs, _ = turns
    ann = ours.adapt(wavs)
    torch.save(ann, tmp_path / "ann.pt")
    kept = torch.load(tmp_path / "ann.pt", weights_only=True)
    vector = ours.embed_file(wavs[0])
    assert torch.equal(
        ours.log_probs(vector, ann), ours.log_probs(vector, kept)
    )


def test_what_cannot_be_adapted_to(ours, turns, tmp_path, sound):
    wavs, names = turns
    with pytest.raises(AudioError, match="missing.wav"):
        ours.adapt([wavs[0], tmp_path / "missing.wav"])
    with pytest.raises(QieemoError, match="at least one"):
        ours.adapt([])
    with pytest.raises(QieemoError, match="5 files, but 4 speakers"):
        ours.predict_conversation(wavs, names[1:])
    other = Moments.of(torch.randn(4, 3))
    with pytest.raises(QieemoError, match="adapt with this model"):
        ours.log_probs(ours.embed_batch(sound(16_000)), other)


def test_a_single_recording_gives_a_list_of_one(ours, turns):
    wavs, _ = turns
    expected = ours(wavs[:1])
    for one in (str(wavs[0]), wavs[0], [wavs[0]]):
        assert ours(one) == list(ours.predict(one)) == expected


def test_a_single_name_is_no_list_of_clips(ours, turns):
    wavs, _ = turns
    with pytest.raises(QieemoError, match="list is needed"):
        ours.adapt(str(wavs[0]))
    with pytest.raises(QieemoError, match="'ann'"):
        ours.predict_conversation(wavs[:3], "ann")
    for number in (0.5, torch.tensor(0.5)):
        with pytest.raises(QieemoError, match="list is needed"):
            ours.adapt(number)
        with pytest.raises(QieemoError, match="Samples are"):
            ours(number)


# Words


def test_ppg_rows_sum_to_one_and_stop_at_the_length(ours, sound, pad):
    ppg = ours.ppg_batch(*pad([sound(16_000), sound(8_000)]))
    assert ppg.posteriors.shape == (2, 50, 29)
    assert ppg.lengths.tolist() == [50, 25]
    assert close(ppg.posteriors[0].sum(-1), torch.ones(50))
    assert close(ppg.posteriors[1, :25].sum(-1), torch.ones(25))
    assert ppg.posteriors[1, 25:].abs().max() == 0
    assert ppg.times[[0, 1, 49]].tolist() == pytest.approx([0, 0.02, 0.98])
    assert ppg.tokens == Characters().names


def test_stage_one_transcribes_and_knows_no_emotion(reader, sound, write_wav):
    signal = sound(16_000)
    path = write_wav(signal)
    text = reader.transcribe_file(path)
    assert text == reader.transcribe_batch(signal)[0][0] != ""
    assert isinstance(reader.analyse_batch(signal), PPGOutput)
    calls = [
        lambda: reader.labels,
        lambda: reader([path]),
        lambda: reader.embed_batch(signal),
        lambda: reader.embed_file(path),
    ]
    for call in calls:
        with pytest.raises(ModelFolderError, match="knows no emotion"):
            call()


def test_a_ppg_that_was_not_trained_does_not_transcribe(model_folder, sound):
    with pytest.raises(ModelFolderError, match="not trained to transcribe"):
        load_model(model_folder).transcribe_batch(sound(16_000))

"""Adaptation to a speaker: voice and emotion, separated."""

import math

import pytest
import torch

from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.speaker import (
    PRIOR_CLIPS,
    SpeakerModel,
    adapted,
    speaker_moments,
)

N_CLASSES, WIDTH = 4, 6
EMOTIONS = 3 * torch.eye(N_CLASSES, WIDTH)


def clips_of(voice, emotions, seed=0):
    """Vectors [N, E] of a speaker, by emotion."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(emotions), WIDTH, generator=generator)
    return voice + EMOTIONS[emotions] + noise / 2


@pytest.fixture(scope="module")
def classifier():
    """Its logits are the first elements of the vector."""
    classifier = Classifier(WIDTH, N_CLASSES).eval()
    classifier.standard.update(torch.tensor([[-1.0], [1.0]]).expand(2, WIDTH))
    classifier.linear.weight.data = torch.eye(N_CLASSES, WIDTH)
    return classifier


@pytest.fixture(scope="module")
def training():
    """Vectors, emotions and speakers of ten, each emotion ten times."""
    emotions = torch.arange(N_CLASSES).repeat(10)
    generator = torch.Generator().manual_seed(1)
    voices = torch.randn(10, WIDTH, generator=generator) / 2
    vectors = [clips_of(v, emotions, seed=i) for i, v in enumerate(voices)]
    speakers = [f"speaker {i}" for i in range(10) for _ in emotions]
    return torch.cat(vectors), emotions.repeat(10), speakers


@pytest.fixture(scope="module")
def model(classifier, training):
    return SpeakerModel.fitted(classifier, *training)


def voice(model, classifier, vectors):
    return model.voice(vectors, classifier.logits(vectors))


def test_without_noise_the_fit_is_exact(classifier):
    # No speaker has all emotions, nor equally often.
    emotions = torch.tensor([0, 1, 1, 2, 3, 1, 2, 2, 3, 0, 0, 3, 1, 0, 2, 3])
    speakers = [*"aaaaaabbbbbccccc"]
    voices = torch.tensor([[-1.0], [0.0], [0.5]]) * torch.ones(WIDTH).cumsum(0)
    voices = voices / 4  # so that no channel reaches the classifier's limit
    who = torch.tensor(["abc".index(name) for name in speakers])
    vectors = voices[who] + EMOTIONS[emotions]
    model = SpeakerModel.fitted(classifier, vectors, emotions, speakers)
    assert model.usual.tolist() == [4 / 16, 4 / 16, 4 / 16, 4 / 16]
    content = EMOTIONS - EMOTIONS.mean(0)
    assert (model.content - content).abs().max() < 1e-5
    usual = (voices + EMOTIONS.mean(0)).mean(0)
    assert (model.centre - usual[:N_CLASSES]).abs().max() < 1e-4


def test_usual_mixture_is_that_of_the_training_data(classifier, training):
    vectors, emotions, speakers = training
    kept = [i for i in range(400) if emotions[i] == 0 or i % 40 < 8]
    model = SpeakerModel.fitted(
        classifier,
        vectors[kept],
        emotions[kept],
        [speakers[i] for i in kept],
    )
    # Of each speaker ten of emotion 0 and two of each other.
    assert model.usual.tolist() == pytest.approx([10 / 16, *[2 / 16] * 3])
    vectors = clips_of(torch.full((WIDTH,), 0.5), [0] * 40 + [1, 2, 3] * 8)
    assert model.emotion_shares(classifier.logits(vectors)).max() < 0.1
    found, plain = voice(model, classifier, vectors), Moments.of(vectors)
    assert (found.mean - plain.mean).abs().max() < 0.1


def test_one_emotion_throughout_is_not_taken_for_the_voice(model, classifier):
    true = torch.full((WIDTH,), 0.5)
    vectors = clips_of(true, [2] * 12)
    assert model.emotion_shares(classifier.logits(vectors))[:, 2].min() > 0.9
    found = voice(model, classifier, vectors).mean
    expected = true + EMOTIONS.mean(0)
    assert (found - expected).abs().max() < 0.5
    assert (Moments.of(vectors).mean - expected)[2] > 2


def test_balanced_emotions_change_nothing(model, classifier):
    vectors = clips_of(torch.full((WIDTH,), 0.5), list(range(N_CLASSES)) * 10)
    assert model.emotion_shares(classifier.logits(vectors)).max() < 0.1
    found, plain = voice(model, classifier, vectors), Moments.of(vectors)
    assert (found.mean - plain.mean).abs().max() < 0.1
    assert (found.variance / plain.variance - 1).abs().max() < 0.1


def test_variance_is_that_of_all_emotions(model, classifier):
    found = voice(model, classifier, clips_of(torch.zeros(WIDTH), [2] * 200))
    content = EMOTIONS - EMOTIONS.mean(0)
    expected = 0.25 + content.square().mean(0)
    assert (found.variance / expected - 1).abs().max() < 0.3


def test_order_does_not_matter(model, classifier):
    vectors = clips_of(torch.ones(WIDTH), [0, 0, 1, 0, 3, 0, 0, 0])
    turned = voice(model, classifier, vectors.flip(0))
    found = voice(model, classifier, vectors)
    assert torch.allclose(found.mean, turned.mean, atol=1e-5)
    assert torch.allclose(found.variance, turned.variance, atol=1e-5)


@pytest.mark.parametrize("clips", [1, 2, 8])
def test_weight_worked_by_hand(clips):
    # The voice is known, the emotions are far apart, and all n clips are of the
    # first. Its probability is 1/2 in the usual mixture and, with half a clip
    # of each as prior, (n + 1/2) / (n + 1) in the free one, which has one
    # more parameter: log(n) / 2.
    model = SpeakerModel(width=2, n_classes=2)
    model.emotions.copy_(torch.tensor([[50.0, -50.0], [-50.0, 50.0]]))
    model.between.copy_(1e-6 * torch.eye(2))
    shares = model.emotion_shares(torch.tensor([[50.0, -50.0]] * clips))
    gain = clips * math.log((2 * clips + 1) / (clips + 1))
    weight = 1 / (1 + math.exp(math.log(clips) / 2 - gain))
    assert shares[:, 0].tolist() == pytest.approx([weight] * clips, abs=1e-4)
    assert shares[:, 1].max() < 1e-6


def test_too_few_clips_to_separate_voices_and_emotions(classifier, training):
    vectors, emotions, speakers = training

    def fitted(kept):
        names = [speakers[i] for i in kept]
        return SpeakerModel.fitted(
            classifier, vectors[kept], emotions[kept], names
        )

    assert fitted(list(range(80))) is None  # two speakers
    assert fitted([i for i, k in enumerate(emotions) if k != 2]) is None
    assert fitted([0, 41, 82, 123, 164]) is None  # a clip of each of five
    assert fitted(list(range(120))) is not None


def test_vectors_of_half_precision(model, classifier):
    vectors = clips_of(torch.ones(WIDTH), [0, 0, 1, 0, 3, 0, 0, 0])
    expected = voice(model, classifier, vectors)
    logits = classifier.logits(vectors)
    found = model.voice(vectors.bfloat16(), logits.bfloat16())
    assert found.mean.dtype == torch.float32
    assert (found.mean - expected.mean).abs().max() < 0.05


def test_adapted_moments_worked_by_hand():
    prior = Moments.of(torch.tensor([[-1.0], [1.0]]))
    speaker = Moments.of(torch.full((15, 1), 4.0))
    # Five clips of mean 0 and variance 1, fifteen of mean 4 and variance 0:
    # variance 1/4 within, 3/16 * 16 between.
    assert PRIOR_CLIPS == 5.0
    merged = adapted(prior, speaker)
    assert (merged.mean.item(), merged.variance.item()) == (3.0, 3.25)


def test_moments_of_a_speaker(model, classifier):
    vectors = clips_of(torch.ones(WIDTH), [2] * 12)
    prior = classifier.standard.moments
    plain = adapted(prior, Moments.of(vectors))
    assert torch.equal(speaker_moments(vectors, classifier).mean, plain.mean)
    separated = adapted(prior, voice(model, classifier, vectors))
    found = speaker_moments(vectors, classifier, model)
    assert torch.equal(found.mean, separated.mean)
    assert not torch.allclose(found.mean, plain.mean, atol=0.1)

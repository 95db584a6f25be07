"""What is usual for a speaker, and what an answer makes of it."""

import pytest
import torch

from qieemo_sb.evaluation.adaptation import (
    CLIPS,
    SpeakerEmbeddings,
    accuracies,
)
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.speaker import PRIOR_CLIPS, adapted
from qieemo_sb.training.speakers import TrainingSpeakers


def moments(*values):
    return Moments.of(torch.tensor(values)[:, None])


@pytest.fixture
def classifier():
    """Class 1 where a vector of one number is above what is usual."""
    classifier = Classifier(width=1, n_classes=2).eval()
    classifier.linear.weight.data = torch.tensor([[-1.0], [1.0]])
    return classifier


@pytest.fixture
def heard():
    """Two speakers, of whom one is always 100 above the other."""
    heard = SpeakerEmbeddings()
    for name, base in (("high", 100.0), ("low", 0.0)):
        vectors = base + torch.tensor([[-2.0], [2.0], [-1.0], [1.0]])
        ids = [f"{i}-{name}" for i in range(4)]
        heard.append(ids, [name] * 4, vectors, torch.tensor([0, 1, 0, 1]))
    return heard


def test_training_data_count_as_so_many_clips():
    prior = Moments(torch.tensor(1e6), torch.zeros(1), torch.ones(1))
    own = moments(*[6.0] * 10)
    result = adapted(prior, own)
    # (5 · 0 + 10 · 6) / 15, and (5 · (1 + 4²) + 10 · 2²) / 15.
    assert PRIOR_CLIPS == 5
    assert result.mean.item() == pytest.approx(4.0)
    assert result.variance.item() == pytest.approx(125 / 15)


def test_many_clips_outweigh_the_training_data():
    prior = Moments(torch.tensor(1e6), torch.zeros(1), torch.ones(1))
    result = adapted(prior, moments(*[7.0, 9.0] * 5000))
    assert result.mean.item() == pytest.approx(8.0, abs=0.01)
    assert result.variance.item() == pytest.approx(1.0, abs=0.05)


def test_each_training_speaker_has_moments_of_their_own():
    speakers = TrainingSpeakers(["ann", "bob", "ann"], width=1)
    speakers(["ann", "bob"], torch.tensor([[1.0], [10.0]]))
    found = speakers(
        ["bob", "ann", "ann"], torch.tensor([[20.0], [3.0], [5.0]])
    )
    assert found.count.tolist() == [[2], [3], [3]]
    assert found.mean.squeeze(1).tolist() == pytest.approx([15, 3, 3])
    assert found.variance[0].item() == pytest.approx(25)


def test_training_speakers_come_back_from_a_checkpoint():
    speakers = TrainingSpeakers(["ann", "bob"], width=2)
    speakers(["ann", "bob", "ann"], torch.randn(3, 2))
    other = TrainingSpeakers(["bob", "ann"], width=2)
    other.load_state_dict(speakers.state_dict())
    x = torch.randn(2, 2)
    found, expected = other(["bob", "ann"], x), speakers(["bob", "ann"], x)
    assert torch.equal(found.mean, expected.mean)


def test_no_vector_teaches_a_speaker_backwards():
    x = torch.randn(2, 3, requires_grad=True)
    found = TrainingSpeakers(["ann"], width=3)(["ann", "ann"], x)
    assert not found.mean.requires_grad


def test_who_is_always_high_is_not_always_of_one_class(classifier, heard):
    assert heard.columns()[-1].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]  # by id
    found = heard.log_probs(classifier).argmax(1)
    # Of the high one, prior's five clips at 0 leave the mean at 44 and all
    # above it; low ones are told apart.
    assert found.tolist() == [1, 0, 1, 1, 1, 0, 1, 1]


def test_with_more_clips_the_speaker_is_known(classifier):
    heard = SpeakerEmbeddings()
    for i in range(200):
        sign = 1 if i % 2 else -1
        value = torch.tensor([[100.0 + 10 * sign]])
        heard.append([f"{i:03}"], ["high"], value, torch.tensor([i % 2]))
    found = heard.log_probs(classifier).argmax(1)
    assert torch.equal(found, heard.columns()[-1])
    fractions = [
        accuracies(heard.after_clips(n), classifier)["adapted"]
        for n in (0, 199)
    ]
    assert fractions == [0.5, 1.0]  # all are above 0


def test_order_and_repeats_do_not_matter(classifier, heard):
    other = SpeakerEmbeddings()
    rows = [(i, *heard._rows[i]) for i in reversed(heard.columns()[0])]
    for utt_id, name, vector, target in [*rows, *rows]:
        other.append([utt_id], [name], vector[None], target[None])
    assert torch.allclose(
        heard.log_probs(classifier), other.log_probs(classifier), atol=1e-6
    )


def test_an_utterance_is_not_among_those_heard_before(classifier):
    heard = SpeakerEmbeddings()  # one clip a speaker: nothing else to hear
    heard.append(["a", "b"], ["x", "y"], torch.ones(2, 1), torch.tensor([1, 0]))
    found = accuracies(heard.after_clips(1), classifier)
    assert found["adapted"] == 0.5


def test_the_curve_is_drawn_alike_each_time(classifier, heard):
    curve = heard.curve(classifier)
    assert curve["clips"] == list(CLIPS)
    assert curve == heard.curve(classifier)


def test_of_one_emotion_the_mean_is_no_voice(classifier):
    # Class 1 lies at 0.5 and at 1.5, class 0 below zero alike, 40 clips each.
    # Of one of them alone the mean, with five clips at 0, is 40 / 45: half of
    # the clips are on its wrong side. Of both it is 0.
    heard, values = (
        SpeakerEmbeddings(),
        torch.tensor([0.5, 1.5, -0.5, -1.5]).repeat(20),
    )
    for i, value in enumerate(values):
        target = (value > 0).long()[None]
        heard.append([f"{i:02}"], ["ann"], value.reshape(1, 1), target)
    found = accuracies(heard.with_emotions(1), classifier)
    assert list(found.values()) == [
        1.0,
        0.5,
        0.5,
    ]
    found = accuracies(heard.with_emotions(2), classifier)
    assert list(found.values()) == [
        1.0,
        1.0,
        1.0,
    ]
    curve = heard.curve(classifier)
    assert curve["emotions"] == [1, 2]
    assert curve["unadapted"] == [1.0, 1.0] and curve["adapted"] == [0.5, 1.0]

"""The emotion classifier."""

import copy
import math

import pytest
import torch

from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.normalization import Moments


@pytest.fixture
def classifier():
    classifier = Classifier(width=6, n_classes=3).eval()
    torch.nn.init.normal_(classifier.linear.weight)
    return classifier


def test_fresh_all_classes_are_equally_likely():
    probs = Classifier(width=6, n_classes=4).eval()(torch.randn(2, 6)).exp()
    assert torch.allclose(probs, torch.full((2, 4), 0.25))


def test_widths_of_parts_add_up():
    assert Classifier([4, 2], n_classes=3).config["width"] == 6


@pytest.mark.parametrize("shape", [(2,), (2, 7), ()])
def test_any_axes_before_the_last(classifier, shape):
    log_probs = classifier(torch.randn(*shape, 6))
    assert log_probs.shape == (*shape, 3)
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(shape))


def test_worked_by_hand():
    classifier = Classifier(width=2, n_classes=2, dropout=0.0)
    classifier.linear.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    classifier.linear.bias.data.zero_()
    classifier(torch.tensor([[2.0, 10.0], [6.0, 30.0]]))  # in training
    # Means 4 and 20, deviations 2 and 10: (6, 10) is standardised to (1, -1),
    # and softmax(1, -1) = sigmoid(±2).
    expected = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))]
    probs = classifier.eval()(torch.tensor([6.0, 10.0])).exp().tolist()
    assert probs == pytest.approx(expected, abs=1e-4)


def test_outliers_are_clipped(classifier):
    # Fresh, the vector is standardised already; five deviations are the most.
    x = torch.zeros(6)
    x[0] = 5.0
    at_limit = classifier(x)
    x[0] = 1e6
    assert torch.allclose(classifier(x), at_limit, atol=1e-3)


def test_scale_of_an_element_does_not_matter(classifier):
    x, scale = torch.randn(9, 6), torch.tensor([1.0, 100, 0.1, 3, 7, 0.5])
    other = copy.deepcopy(classifier)
    classifier.train()(x), other.train()(x * scale)
    found, scaled = classifier.eval()(x), other.eval()(x * scale)
    assert torch.allclose(found, scaled, atol=1e-2)


def test_rows_stand_alone(classifier):
    x = torch.randn(5, 6)
    alone = torch.cat([classifier(row[None]) for row in x])
    assert torch.allclose(classifier(x), alone, atol=1e-6)


def test_float32_under_autocast(classifier):
    with torch.autocast("cpu", torch.bfloat16):
        log_probs = classifier(torch.randn(2, 6))
    assert log_probs.dtype == torch.float32
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(2), atol=1e-6)


def test_dropout_is_for_training(classifier):
    x = torch.randn(2, 6)
    assert torch.equal(classifier(x), classifier(x))
    classifier.train()
    assert not torch.equal(classifier(x), classifier(x))


def test_every_parameter_learns(classifier):
    classifier(torch.randn(2, 6))[:, 0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in classifier.parameters())


def test_a_speakers_moments_replace_those_of_the_training_data():
    classifier = Classifier(width=1, n_classes=2, dropout=0.0)
    classifier.linear.weight.data = torch.tensor([[1.0], [0.0]])
    classifier.linear.bias.data.zero_()
    speaker = Moments.of(torch.tensor([[10.0], [14.0]]))
    # Mean 12, deviation 2:
    # (15 - 12) / 2 = 1.5
    probs = classifier.eval()(torch.tensor([15.0]), speaker).exp()
    assert probs[0].item() == pytest.approx(1 / (1 + math.exp(-1.5)), abs=1e-4)


def test_each_row_by_its_speaker(classifier):
    x = torch.randn(2, 6)
    speakers = [Moments.of(torch.randn(4, 6)) for _ in x]
    count, mean, variance = map(torch.stack, zip(*speakers, strict=True))
    together = classifier(x, Moments(count[:, None], mean, variance))
    for row, speaker, found in zip(x, speakers, together, strict=True):
        assert torch.allclose(classifier(row, speaker), found, atol=1e-6)


def test_adapted_vectors_do_not_change_the_statistics(classifier):
    before = classifier.standard.mean.clone()
    x = 5 + torch.randn(4, 6)
    classifier.train()(x, Moments.of(x))
    assert torch.equal(classifier.standard.mean, before)

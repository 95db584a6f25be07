"""The emotion classifier."""

import math

import pytest
import torch

from qieemo_sb.lobes.classifier import Classifier


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(width=6, n_classes=3).eval()


@pytest.mark.parametrize("shape", [(2,), (2, 7), ()])
def test_any_axes_before_the_last(classifier, shape):
    log_probs = classifier(torch.randn(*shape, 6))
    assert log_probs.shape == (*shape, 3)
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(shape))


def test_worked_by_hand():
    classifier = Classifier(width=2, n_classes=2).eval()
    classifier.linear.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    classifier.linear.bias.data.zero_()
    # (4, 0) is normed to (1, -1), and softmax(1, -1) = sigmoid(±2).
    expected = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))]
    probs = classifier(torch.tensor([4.0, 0.0])).exp().tolist()
    assert probs == pytest.approx(expected, abs=1e-4)


def test_scale_of_the_embedding_does_not_matter(classifier):
    x = torch.randn(2, 6)
    assert torch.allclose(classifier(x), classifier(100 * x), atol=1e-4)


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
    torch.manual_seed(0)
    x = torch.randn(2, 6)
    assert torch.equal(classifier(x), classifier(x))
    classifier.train()
    assert not torch.equal(classifier(x), classifier(x))


def test_every_parameter_learns(classifier):
    classifier(torch.randn(2, 6))[:, 0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in classifier.parameters())

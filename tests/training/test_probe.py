"""A classifier that starts from the probe of block statistics."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from speechbrain.dataio.dataset import DynamicItemDataset

from qieemo_sb.errors import CorpusError
from qieemo_sb.training.probe import (
    _centred,
    _ridge,
    fit_logistic,
    fit_squares,
    start_from_probe,
)
from qieemo_sb.training.targets import EmotionTargets

EMOTIONS = ["neu", "hap", "ang", "sad"]
SIZE, WIDTH = 60, 5


def make_targets(labels, corpora=("x",), **options):
    """Targets of utterances "0", "1", ... whose corpora take turns."""
    rows = {
        str(i): {"emo": EMOTIONS[k], "corpus": corpora[i % len(corpora)]}
        for i, k in enumerate(labels)
    }
    train = {"train": DynamicItemDataset(rows)}
    return list(rows), EmotionTargets(train, EMOTIONS, **options)


@pytest.fixture
def labels():
    """Classes of unequal size."""
    return np.random.default_rng(0).choice(4, SIZE, p=[0.4, 0.3, 0.2, 0.1])


def features(labels, width=WIDTH):
    """Standardised features that tell something of their class."""
    x = np.random.default_rng(1).normal(size=(len(labels), width))
    x[np.arange(len(labels)), labels] += 1.0
    return torch.from_numpy((x - x.mean(0)) / x.std(0)).float()


@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_it_is_scikit_learns(labels, balance, c):
    x = features(labels)
    ids, targets = make_targets(labels, balance=balance)
    weight, bias = fit_logistic(x, ids, targets, c)
    weights = "balanced" if balance else None
    model = LogisticRegression(C=c, class_weight=weights, tol=1e-8)
    model.fit(x.numpy(), labels)
    np.testing.assert_allclose(weight.numpy(), model.coef_, atol=1e-3)
    # Biases are free of a constant.
    bias = bias - bias.mean()
    expected = model.intercept_ - model.intercept_.mean()
    np.testing.assert_allclose(bias.numpy(), expected, atol=1e-3)


def test_corpora_are_fitted_each_among_its_own_labels(labels):
    """One has the labels 0 and 1, the other 2 and 3."""
    both = np.stack([labels % 2, 2 + labels // 2], axis=1).reshape(-1)
    ids, targets = make_targets(both, ("x", "y"), balance=False)
    x = features(both)
    weight, bias = fit_logistic(x, ids, targets, 1.0)
    for first, own in ((0, [0, 1]), (1, [2, 3])):
        alone = fit_logistic(x[first::2], ids[first::2], targets, 1.0)
        assert torch.allclose(weight[own], alone[0][own], atol=1e-3)
        assert torch.allclose(bias[own], alone[1][own], atol=1e-3)


@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("width", [WIDTH, 2 * SIZE])  # primal and dual
def test_squares_are_scikit_learns_but_for_a_scale(labels, balance, width):
    x = features(labels, width)
    ids, targets = make_targets(labels, balance=balance)
    weight, bias = fit_squares(x, ids, targets, 0.1)
    weights = targets.weights[targets.places(ids)].numpy()
    model = Ridge(alpha=1 / 0.1).fit(x.numpy(), np.eye(4)[labels], weights)
    scale = weight.norm() / np.linalg.norm(model.coef_)
    expected = torch.from_numpy(model.coef_).float() * scale
    assert torch.allclose(weight, expected, atol=1e-4)
    expected = torch.from_numpy(model.intercept_).float() * scale
    assert torch.allclose(bias, expected, atol=1e-4)


@pytest.mark.parametrize("width", [WIDTH, 2 * SIZE])
def test_left_out_is_fitted_without(labels, width):
    x, target = features(labels, width), torch.eye(4)[labels][:, 0]
    weights = torch.linspace(0.5, 1.5, SIZE)
    *_, left_out = _ridge(x, target, weights, 0.1)
    for i in (0, 7):
        rest = torch.arange(SIZE) != i
        weight, bias, _ = _ridge(x[rest], target[rest], weights[rest], 0.1)
        expected = float(x[i] @ weight + bias)
        assert float(left_out[i]) == pytest.approx(expected, abs=1e-4)


def test_squares_of_corpora_with_their_own_labels(labels):
    both = np.stack([labels % 2, 2 + labels // 2], axis=1).reshape(-1)
    ids, targets = make_targets(both, ("x", "y"), balance=False)
    x = features(both)
    weight, _ = fit_squares(x, ids, targets, 1.0)
    alone, _ = fit_squares(x[::2], ids[::2], targets, 1.0)
    ratio = weight[:2] / alone[:2]  # of their scales
    assert torch.allclose(ratio, ratio.mean().expand_as(ratio), atol=1e-3)


def test_speakers_means_are_taken_off_but_not_of_one_emotion():
    """Ann and Bob differ by 10 and show both emotions, Cem shows one."""
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0], [7.0]])
    speakers, labels = list("aabbc"), torch.tensor([0, 1, 0, 1, 0])
    found = _centred(x, speakers, labels)
    assert found.flatten().tolist() == [-0.5, 0.5, -0.5, 0.5, 7.0]
    assert x[0] == 0


def test_a_classifier_starts_as_the_probe(make_variant, labels):
    """It answers as the probe of whole clips, whatever the pooling gives."""
    model = make_variant("statistics")
    width = model.block_statistics.embedding_width
    pooled = 50 * torch.randn(SIZE, model.classifier.width - width)
    embeddings = torch.cat([pooled, 3 + 2 * features(labels, width)], dim=1)
    ids, targets = make_targets(labels)
    start_from_probe(model, embeddings, ids, targets, c=0.1)
    linear, standard = model.classifier.linear, model.classifier.standard
    assert (linear.weight[:, :-width] == 0).all()
    assert (linear.weight[:, -width:] != 0).any()
    assert torch.allclose(standard.mean, embeddings.mean(dim=0), atol=1e-5)
    x = model.classifier.standardised(embeddings)[:, -width:]
    weight, bias = fit_logistic(x, ids, targets, 0.1)
    found = model.classifier(embeddings)
    assert torch.allclose(found, (x @ weight.T + bias).log_softmax(-1))
    embeddings[:, :-width] = torch.randn(SIZE, pooled.shape[1])
    assert torch.equal(model.classifier(embeddings), found)


def test_without_block_statistics_there_is_no_probe(make_model, labels):
    ids, targets = make_targets(labels)
    model = make_model()
    embeddings = torch.randn(SIZE, model.classifier.width)
    with pytest.raises(CorpusError, match="Set probe_c to null"):
        start_from_probe(model, embeddings, ids, targets, 0.1)
    with pytest.raises(CorpusError, match="probe_loss is cubes"):
        start_from_probe(model, embeddings, ids, targets, 0.1, "cubes")

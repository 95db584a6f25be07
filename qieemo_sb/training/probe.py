"""A new classifier starts from the linear probe of block statistics.

Trained from zero by stochastic gradients, a classifier stays below the probe's
exact solution. From that solution, with the fusion's weights at zero, training
can only add to it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qieemo_sb.errors import CorpusError
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.model import Qieemo
from qieemo_sb.training.targets import EmotionTargets

STEPS = 200  # of L-BFGS, which ends before that


def start_from_probe(
    model: Qieemo,
    embeddings: Tensor,
    ids: Sequence[str],
    targets: EmotionTargets,
    c: float,
    loss: str = "logistic",
    centre: bool = False,
) -> None:
    """Set a classifier to a linear probe of block statistics.

    Arguments
    ---------
    model : Qieemo
        With ``block_statistics``. Its classifier gets the moments of all
        embeddings; the weights of ``pooling`` become zero.
    embeddings : torch.Tensor
        [N, E] of whole training clips.
    ids : sequence of str
        N utterances.
    targets : EmotionTargets
        Of these utterances.
    c : float
        Inverse strength of the L2 penalty, as scikit-learn's C.
    loss : str
        A key of ``PROBES``. Squares may be better where there are few clips.
    centre : bool
        Take the mean of each speaker off that speaker's vectors: voices are
        then no hint. A speaker who shows one emotion is left as they are.

    Raises
    ------
    CorpusError
        The model has no block statistics, or there is no such loss.
    """
    if loss not in PROBES:
        raise CorpusError(
            f"probe_loss is {loss}; it can be {' or '.join(PROBES)}."
        )
    if model.block_statistics is None:
        raise CorpusError(
            "probe_c needs block_statistics: a probe is what they start from. "
            "Set probe_c to null."
        )
    classifier = model.classifier
    classifier.standard.merge(Moments.of(embeddings))
    x = classifier.standardised(embeddings)
    if centre:
        x = _centred(x, targets.groups("speaker", ids), targets.indices(ids))
    width = model.block_statistics.embedding_width
    weight, bias = PROBES[loss](x[:, -width:], ids, targets, c)
    with torch.no_grad():
        classifier.linear.weight.zero_()
        classifier.linear.weight[:, -width:] = weight
        classifier.linear.bias.copy_(bias)


def minimise(cost: Callable[[], Tensor], *variables: Tensor) -> None:
    """Set variables to the least cost that L-BFGS finds from where they are.

    Arguments
    ---------
    cost : callable
        Takes nothing and returns a scalar that depends on the variables.
    *variables : torch.Tensor
        Changed in place.
    """
    solution = [x.requires_grad_() for x in variables]
    optimizer = torch.optim.LBFGS(
        solution, max_iter=STEPS, line_search_fn="strong_wolfe"
    )

    def step():
        optimizer.zero_grad()
        value = cost()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(step)
    for x in variables:
        x.requires_grad_(False)


def _centred(x, speakers, labels):
    """Vectors [N, F] less the means of the speakers of several emotions."""
    x = x.clone()
    for name in dict.fromkeys(speakers):
        rows = [i for i, speaker in enumerate(speakers) if speaker == name]
        if len(labels[rows].unique()) > 1:
            x[rows] -= x[rows].mean(dim=0)
    return x


def fit_logistic(
    x: Tensor, ids: Sequence[str], targets: EmotionTargets, c: float
) -> tuple[Tensor, Tensor]:
    """Fit a multinomial logistic regression, by L-BFGS.

    Arguments
    ---------
    x : torch.Tensor
        [N, F] standardised.
    ids, targets, c
        See ``start_from_probe``.

    Returns
    -------
    torch.Tensor
        [C, F] weights that minimise c N ``targets.loss`` + their squares / 2.
    torch.Tensor
        [C] biases, which are not penalised.
    """
    x = x.detach()
    weight = x.new_zeros(targets.shares.shape[1], x.shape[1])
    bias = weight.new_zeros(len(weight))

    def cost():
        log_probs = targets.among_known(x @ weight.T + bias, ids)
        loss = c * len(x) * targets.loss(log_probs, ids)
        return loss + weight.square().sum() / 2

    minimise(cost, weight, bias)
    return weight, bias


def fit_squares(
    x: Tensor, ids: Sequence[str], targets: EmotionTargets, c: float
) -> tuple[Tensor, Tensor]:
    """Fit a ridge regression to the targets, and a scale that makes it logits.

    Each emotion by itself, on the utterances of corpora that know it. The
    scale is the one with the least ``targets.loss`` of the predictions for
    each utterance by all others, in closed form.

    Arguments
    ---------
    x, ids, targets, c
        As of ``fit_logistic``.

    Returns
    -------
    torch.Tensor
        [C, F] weights: before they are scaled, those that minimise c times the
        weighted squared errors + their squares.
    torch.Tensor
        [C] biases, which are not penalised.
    """
    rows = targets.places(ids)
    known, weights = targets.known[rows], targets.weights[rows]
    outputs = [
        _ridge(x[own], targets.shares[rows, k][own], weights[own], c)
        for k, own in enumerate(known.T)
    ]
    others = x.new_zeros(len(x), len(outputs))
    for k, (_, _, left_out) in enumerate(outputs):
        others[known[:, k], k] = left_out
    weight, bias = (
        torch.stack(x) for x in list(zip(*outputs, strict=True))[:2]
    )
    scale = _best_scale(others, ids, targets)
    return scale * weight, scale * bias


def _ridge(x, target, weights, c):
    """Weights [F], bias, and predictions [N] for each row by all others."""
    share = weights / weights.sum()
    means, mean = share @ x, share @ target
    root = weights.sqrt()[:, None]
    x, y = root * (x - means), root[:, 0] * (target - mean)
    penalty = torch.eye(min(x.shape), device=x.device) / c
    if len(x) < x.shape[1]:
        inverse = torch.linalg.inv(x @ x.T + penalty)
        weight = x.T @ (inverse @ y)
        hat = 1 - inverse.diagonal() / c
    else:
        inverse = torch.linalg.inv(x.T @ x + penalty)
        weight = inverse @ (x.T @ y)
        hat = ((x @ inverse) * x).sum(dim=1)
    errors = (y - x @ weight) / (1 - hat - share).clamp(min=1e-3)
    left_out = target - errors / root[:, 0].clamp(min=1e-6)
    return weight, mean - means @ weight, left_out


def _best_scale(outputs, ids, targets):
    """The factor of outputs [N, C] with the least loss, as logits."""
    factor = outputs.new_zeros(())  # its logarithm

    def cost():
        log_probs = targets.among_known(factor.exp() * outputs, ids)
        return targets.loss(log_probs, ids)

    minimise(cost, factor)
    return factor.exp()


PROBES = {"logistic": fit_logistic, "squares": fit_squares}

"""A new classifier starts from the linear probe of block statistics.

Trained from zero by stochastic gradients, a classifier stays below the probe's
exact solution. From that solution, with the fusion's weights at zero, training
can only add to it.
"""

from collections.abc import Sequence

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
    centre: bool = False,
) -> None:
    """Set a classifier to the logistic regression of block statistics.

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
    centre : bool
        Take the mean of each speaker off that speaker's vectors: voices are
        then no hint. A speaker who shows one emotion is left as they are.

    Raises
    ------
    CorpusError
        The model has no block statistics.
    """
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
    weight, bias = fit_probe(x[:, -width:], ids, targets, c)
    with torch.no_grad():
        classifier.linear.weight.zero_()
        classifier.linear.weight[:, -width:] = weight
        classifier.linear.bias.copy_(bias)


def _centred(x, speakers, labels):
    """Vectors [N, F] less the means of the speakers of several emotions."""
    x = x.clone()
    for name in dict.fromkeys(speakers):
        rows = [i for i, speaker in enumerate(speakers) if speaker == name]
        if len(labels[rows].unique()) > 1:
            x[rows] -= x[rows].mean(dim=0)
    return x


def fit_probe(
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
    solution = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        solution, max_iter=STEPS, line_search_fn="strong_wolfe"
    )

    def objective():
        optimizer.zero_grad()
        log_probs = targets.among_known(x @ weight.T + bias, ids)
        cost = c * len(x) * targets.loss(log_probs, ids)
        cost = cost + weight.square().sum() / 2
        cost.backward()
        return cost

    with torch.enable_grad():
        optimizer.step(objective)
    return weight.detach(), bias.detach()

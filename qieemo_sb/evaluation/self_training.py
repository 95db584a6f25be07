"""Self-training on unlabelled clips of one source, such as a corpus.

A classifier's own probabilities are taken for targets of a linear regression on
the clips' standardised vectors; its outputs, sharpened, are the next targets.
Clips of one emotion form a cluster, and a boundary that lies beside a gap
between clusters moves into it. The method assumes that the clips show the
emotions about equally often, as acted corpora do. On others it does harm, as
does standardising them by their own mean.
"""

import torch
from torch import Tensor

ROUNDS = 5  # many more would lose the emotions that are rare
PENALTY = 1.0  # of squared weights, where a vector's elements have variance one
SHARPNESS = 6.0  # a factor: regressions on probabilities shrink differences


@torch.no_grad()
def self_train(vectors: Tensor, probabilities: Tensor) -> Tensor:
    r"""Revise the probabilities of clips by their vectors.

    .. math::

        W = (X^T X / N + \lambda I)^{-1} X^T (P - \bar p) / N, \quad
        P' = \mathrm{softmax}(s (X W + \bar p))

    several times, with λ ``PENALTY`` and s ``SHARPNESS``.

    Arguments
    ---------
    vectors : torch.Tensor
        [N, E] standardised over these clips.
    probabilities : torch.Tensor
        [N, C] of a classifier.

    Returns
    -------
    torch.Tensor
        [N, C] probabilities.

    Example
    -------
    >>> vectors = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    >>> unsure = torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.6, 0.4], [0.4, 0.6]])
    >>> self_train(vectors, unsure).argmax(dim=1)
    tensor([0, 0, 1, 1])
    """
    size = len(vectors)
    x = vectors - vectors.mean(dim=0)
    if size < x.shape[1]:  # (XᵀX + λI)⁻¹Xᵀ = Xᵀ(XXᵀ + λI)⁻¹, which is smaller
        hat = x @ x.T / size
        hat = torch.linalg.solve(hat + PENALTY * torch.eye(size).to(x), hat)
    else:
        eye = torch.eye(x.shape[1]).to(x)
        solved = torch.linalg.solve(x.T @ x / size + PENALTY * eye, x.T / size)
        hat = x @ solved
    for _ in range(ROUNDS):
        mean = probabilities.mean(dim=0)
        outputs = hat @ (probabilities - mean) + mean
        probabilities = (SHARPNESS * outputs).softmax(dim=1)
    return probabilities

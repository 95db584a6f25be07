"""Self-training turns a boundary so that it lies between clusters."""

import torch

from qieemo_sb.evaluation.self_training import self_train


def clusters(size, width, seed=0):
    """Two clusters, ``size`` clips each, apart along the first element."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * size, width, generator=generator)
    x[:, 0] *= 0.2
    x[:size, 0] -= 1
    x[size:, 0] += 1
    return x - x.mean(dim=0), torch.arange(2 * size) // size


def biased(x):
    """Probabilities of a classifier that takes the second element, too."""
    logits = torch.stack([0 * x[:, 0], 4 * (x[:, 0] + x[:, 1])], dim=1)
    return logits.softmax(dim=1)


def test_a_boundary_across_clusters_turns():
    x, labels = clusters(size=200, width=2)
    before = (biased(x).argmax(dim=1) == labels).float().mean()
    after = self_train(x, biased(x))
    assert before < 0.87
    assert (after.argmax(dim=1) == labels).float().mean() > 0.95


def test_few_and_many_clips_are_solved_alike():
    # By the N x N and by the E x E system: equal where N and E are near.
    x, _ = clusters(size=10, width=19)
    wide = torch.cat([x, torch.zeros(20, 5)], dim=1)  # now N < E
    torch.testing.assert_close(
        self_train(x, biased(x)), self_train(wide, biased(wide))
    )


def test_order_of_clips_does_not_matter():
    x, _ = clusters(size=15, width=4)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    shuffled = self_train(x[order], biased(x)[order])
    torch.testing.assert_close(shuffled, self_train(x, biased(x))[order])


def test_rounds_by_hand():
    # One element: XᵀX / N = 1, so that W = (1 + 1)⁻¹ · XᵀP / N.
    x = torch.tensor([[-1.0], [1.0]])
    share = torch.tensor(0.8)
    found = self_train(x, torch.tensor([[0.8, 0.2], [0.2, 0.8]]))
    for _ in range(5):  # outputs 0.5 ± (p - 0.5) / 2, sharpened by 6
        share = torch.sigmoid(6 * (share - 0.5))
    torch.testing.assert_close(found[0, 0], share)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(2))

"""Emotional features: blocks weighed, and brought to one scale."""

import pytest
import torch

from qieemo_sb.errors import QieemoError
from qieemo_sb.lobes import blocks as blocks_module
from qieemo_sb.lobes.blocks import BLOCKS, BlockMixer

LENGTHS = torch.tensor([7, 3])


def make_hidden(seed=0):
    """Blocks 0 … 3 of a batch; scales and means differ."""
    generator = torch.Generator().manual_seed(seed)
    return {
        k: 10**k * (torch.randn(2, 7, 4, generator=generator) + k)
        for k in range(4)
    }


@pytest.fixture
def hidden():
    return make_hidden()


@pytest.fixture(params=BLOCKS)
def kind(request):
    return BLOCKS[request.param]


def train(*mixers, batches):
    """Show batches to mixers in training."""
    for mixer in mixers:
        mixer.train()
        for batch, lengths in batches:
            mixer(batch, lengths)
        mixer.eval()


def real_frames(batches, block):
    """All frames of a block [ΣT, D] that belong to an utterance."""
    return torch.cat(
        [
            hidden[block][row, :length]
            for hidden, lengths in batches
            for row, length in enumerate(lengths.tolist())
        ]
    )


# Every mixer


def test_weights_are_a_softmax(kind):
    mixer = kind(blocks=[3, 1], d_model=4)
    assert mixer.weights().tolist() == pytest.approx([0.5, 0.5])
    mixer.logits.data = torch.tensor([3.0, 1.0]).log()
    assert mixer.weights().tolist() == pytest.approx([0.75, 0.25])


def test_without_training_blocks_are_averaged_as_they_are(kind, hidden):
    mixer = kind(blocks=[1, 2], d_model=4).eval()
    expected = (hidden[1] + hidden[2]) / 2
    assert torch.allclose(mixer(hidden, LENGTHS), expected, rtol=1e-4)
    one = kind(blocks=[2], d_model=4).eval()
    assert torch.allclose(one(hidden, LENGTHS), hidden[2], rtol=1e-4)


def test_frames_stand_alone(kind, hidden):
    mixer = kind([1, 2], 4)
    train(mixer, batches=[(hidden, LENGTHS)])
    part = {k: h[1:, 2:3] for k, h in hidden.items()}
    whole = mixer(hidden, LENGTHS)[1:, 2:3]
    assert torch.allclose(mixer(part, torch.tensor([1])), whole, atol=1e-6)


def test_weights_and_blocks_get_gradients(kind, hidden):
    mixer = kind(blocks=[1, 2], d_model=4).train()
    hidden[2].requires_grad_()
    mixed = mixer(hidden, LENGTHS)
    mixed.sum().backward(retain_graph=True)
    assert (hidden[2].grad > 0).all()  # a tuned encoder learns from these
    mixed[0].square().sum().backward()
    assert (mixer.logits.grad != 0).all()


@pytest.mark.parametrize("blocks", [[], [1, 2, 1]])
def test_blocks_must_be_distinct(kind, blocks):
    with pytest.raises(QieemoError, match="(?i)distinct blocks"):
        kind(blocks=blocks, d_model=4)


# BlockMixer


def test_one_block_has_no_weight_to_learn():
    mixer = BlockMixer(blocks=[2], d_model=4)
    assert list(mixer.parameters()) == []
    assert mixer.weights().tolist() == [1.0]


def test_worked_by_hand():
    mixer = BlockMixer(blocks=[1], d_model=1)
    frames = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [7.0], [99.0]]])
    train(mixer, batches=[({1: frames}, torch.tensor([2, 2]))])
    # 1, 3, 5, 7: mean 4, variance 5.
    mixed = mixer({1: torch.tensor([[[4.0], [9.0]]])}, torch.tensor([2]))
    assert mixed.flatten().tolist() == pytest.approx([0.0, 5**0.5], abs=1e-4)


def test_statistics_are_those_of_all_real_frames():
    mixer, dirty = BlockMixer([1, 3], d_model=4), BlockMixer([1, 3], 4)
    lengths = [torch.tensor(x) for x in ([7, 3], [1, 1], [4, 7], [2, 5])]
    batches = [(make_hidden(i), x) for i, x in enumerate(lengths)]
    train(mixer, batches=batches)
    assert mixer.standard.count == 30
    for row, block in enumerate((1, 3)):
        frames = real_frames(batches, block)
        mean, variance = frames.mean(dim=0), frames.var(dim=0, correction=0)
        assert torch.allclose(mixer.standard.mean[row], mean, rtol=1e-4)
        assert torch.allclose(mixer.standard.variance[row], variance, rtol=1e-4)
    for hidden, sizes in batches:
        for row, size in enumerate(sizes.tolist()):
            hidden[1][row, size:] = 1e6
    train(dirty, batches=batches)
    assert torch.equal(mixer.standard.mean, dirty.standard.mean)
    assert torch.equal(mixer.standard.variance, dirty.standard.variance)


def test_training_frames_come_out_standardised():
    mixer = BlockMixer(blocks=[3], d_model=4)
    batches = [(make_hidden(), LENGTHS)]
    train(mixer, batches=batches)
    mixed = real_frames([({3: mixer(*batches[0])}, LENGTHS)], 3)
    assert torch.allclose(mixed.mean(dim=0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(mixed.std(0, correction=0), torch.ones(4))


def test_standardised_blocks_count_by_their_weights(hidden):
    both = BlockMixer(blocks=[3, 1], d_model=4)
    both.logits.data = torch.tensor([3.0, 1.0]).log()
    one, other = BlockMixer([3], 4), BlockMixer([1], 4)
    train(both, one, other, batches=[(hidden, LENGTHS)])
    expected = 0.75 * one(hidden, LENGTHS) + 0.25 * other(hidden, LENGTHS)
    assert torch.allclose(both(hidden, LENGTHS), expected, atol=1e-5)


def test_recent_frames_replace_old_ones(monkeypatch):
    monkeypatch.setattr(blocks_module, "MEMORY", 20)
    mixer = BlockMixer([1], 4)
    full = torch.tensor([7, 7])
    train(mixer, batches=[({1: torch.full((2, 7, 4), 100.0)}, full)] * 10)
    assert mixer.standard.count == 20
    train(mixer, batches=[({1: torch.zeros(2, 7, 4)}, full)] * 40)
    assert mixer.standard.mean.abs().max() < 1e-3


def test_statistics_stay_in_evaluation_and_travel_with_weights(hidden):
    mixer, again = BlockMixer([1, 2], 4), BlockMixer([1, 2], 4)
    train(mixer, batches=[(hidden, LENGTHS)])
    before = {k: v.clone() for k, v in mixer.state_dict().items()}
    mixer(make_hidden(seed=9), LENGTHS)
    for name, value in mixer.state_dict().items():
        assert torch.equal(value, before[name]), name
    again.load_state_dict(before)
    expected = mixer(hidden, LENGTHS)
    assert torch.equal(again.eval()(hidden, LENGTHS), expected)


def test_constant_channels_give_no_nan():
    mixer = BlockMixer([1], 4)
    constant = {1: torch.full((1, 1, 4), 3.0)}
    train(mixer, batches=[(constant, torch.tensor([1]))])
    assert not mixer(constant, torch.tensor([1])).any()

"""Blocks, each channel brought to one scale, and weighed."""

import pytest
import torch

from qieemo_sb.lobes import blocks as mixer_module
from qieemo_sb.lobes.blocks import BlockMixer

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


def heard(*mixers, batches):
    """Mixers that have seen batches in training."""
    for mixer in mixers:
        mixer.train()
        for batch, lengths in batches:
            mixer(batch, lengths)
        mixer.eval()


def own_frames(batches, block):
    """All frames of a block [ΣT, D] that belong to an utterance."""
    return torch.cat(
        [
            h[block][row, :length]
            for h, lengths in batches
            for row, length in enumerate(lengths.tolist())
        ]
    )


def test_weights_are_a_softmax():
    mixer = BlockMixer(blocks=[3, 1], d_model=4)
    mixer.logits.data = torch.tensor([3.0, 1.0]).log()
    assert mixer.weights().tolist() == pytest.approx([0.75, 0.25])


def test_fresh_weights_are_equal():
    mixer = BlockMixer(blocks=[0, 2, 3], d_model=4)
    assert torch.allclose(mixer.weights(), torch.full((3,), 1 / 3))


def test_one_block_has_no_weight_to_learn():
    mixer = BlockMixer(blocks=[2], d_model=4)
    assert list(mixer.parameters()) == []
    assert mixer.weights().tolist() == [1.0]


def test_without_training_blocks_stay_as_they_are(hidden):
    mixer = BlockMixer(blocks=[1, 2], d_model=4).eval()
    expected = (hidden[1] + hidden[2]) / 2
    assert torch.allclose(mixer(hidden, LENGTHS), expected, rtol=1e-4)


def test_worked_by_hand():
    mixer = BlockMixer(blocks=[1], d_model=1)
    frames = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [7.0], [99.0]]])
    heard(mixer, batches=[({1: frames}, torch.tensor([2, 2]))])
    # 1, 3, 5, 7: mean 4, variance 5.
    mixed = mixer({1: torch.tensor([[[4.0], [9.0]]])}, torch.tensor([2]))
    assert mixed.flatten().tolist() == pytest.approx([0.0, 5**0.5], abs=1e-4)


def test_statistics_are_those_of_all_frames_heard():
    mixer = BlockMixer(blocks=[1, 3], d_model=4)
    lengths = [torch.tensor(x) for x in ([7, 3], [1, 1], [4, 7], [2, 5])]
    batches = [(make_hidden(i), x) for i, x in enumerate(lengths)]
    heard(mixer, batches=batches)
    assert mixer.standard.count == 30
    for row, block in enumerate((1, 3)):
        frames = own_frames(batches, block)
        variance = frames.var(dim=0, unbiased=False)
        assert torch.allclose(
            mixer.standard.mean[row], frames.mean(dim=0), rtol=1e-4
        )
        assert torch.allclose(mixer.standard.variance[row], variance, rtol=1e-4)


def test_training_frames_come_out_standardised():
    mixer = BlockMixer(blocks=[3], d_model=4)
    batches = [(make_hidden(), LENGTHS)]
    heard(mixer, batches=batches)
    mixed = own_frames([({3: mixer(*batches[0])}, LENGTHS)], 3)
    assert torch.allclose(mixed.mean(dim=0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(mixed.std(0, unbiased=False), torch.ones(4))


def test_blocks_count_by_their_weights(hidden):
    both = BlockMixer(blocks=[3, 1], d_model=4)
    both.logits.data = torch.tensor([3.0, 1.0]).log()
    one, other = BlockMixer([3], 4), BlockMixer([1], 4)
    heard(both, one, other, batches=[(hidden, LENGTHS)])
    expected = 0.75 * one(hidden, LENGTHS) + 0.25 * other(hidden, LENGTHS)
    assert torch.allclose(both(hidden, LENGTHS), expected, atol=1e-5)


def test_frames_past_the_end_are_not_heard(hidden):
    clean, dirty = BlockMixer([1], 4), BlockMixer([1], 4)
    heard(clean, batches=[(hidden, LENGTHS)])
    hidden[1][1, 3:] = 1e6
    heard(dirty, batches=[(hidden, LENGTHS)])
    assert torch.equal(clean.standard.mean, dirty.standard.mean)
    assert torch.equal(clean.standard.variance, dirty.standard.variance)


def test_recent_frames_replace_old_ones(monkeypatch):
    monkeypatch.setattr(mixer_module, "MEMORY", 20)
    mixer = BlockMixer([1], 4)
    old = [({1: torch.full((2, 7, 4), 100.0)}, torch.tensor([7, 7]))] * 10
    new = [({1: torch.zeros(2, 7, 4)}, torch.tensor([7, 7]))] * 40
    heard(mixer, batches=old)
    assert mixer.standard.count == 20
    heard(mixer, batches=new)
    assert mixer.standard.mean.abs().max() < 1e-3


def test_in_use_nothing_is_learnt(hidden):
    mixer = BlockMixer([1, 2], 4)
    heard(mixer, batches=[(hidden, LENGTHS)])
    before = {k: v.clone() for k, v in mixer.state_dict().items()}
    mixer(make_hidden(seed=9), LENGTHS)
    for name, value in mixer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_statistics_travel_with_the_weights(hidden):
    mixer, again = BlockMixer([1, 2], 4), BlockMixer([1, 2], 4)
    heard(mixer, batches=[(hidden, LENGTHS)])
    again.load_state_dict(mixer.state_dict())
    expected = mixer(hidden, LENGTHS)
    assert torch.equal(again.eval()(hidden, LENGTHS), expected)


def test_frames_stand_alone(hidden):
    mixer = BlockMixer([1, 2], 4)
    heard(mixer, batches=[(hidden, LENGTHS)])
    part = {k: h[1:, 2:3] for k, h in hidden.items()}
    whole = mixer(hidden, LENGTHS)[1:, 2:3]
    assert torch.allclose(mixer(part, torch.tensor([1])), whole, atol=1e-6)


def test_constant_channels_give_no_nan():
    mixer = BlockMixer([1], 4)
    constant = {1: torch.full((1, 1, 4), 3.0)}
    heard(mixer, batches=[(constant, torch.tensor([1]))])
    assert not mixer(constant, torch.tensor([1])).any()


def test_weights_learn(hidden):
    mixer = BlockMixer(blocks=[1, 2], d_model=4).train()
    mixer(hidden, LENGTHS)[0].square().sum().backward()
    assert mixer.logits.grad.abs().sum() > 0


def test_blocks_get_gradients_through_the_mix(hidden):
    # What a tuned encoder learns from; the statistics are no part of it.
    mixer = BlockMixer(blocks=[1, 2], d_model=4).train()
    hidden[2].requires_grad_()
    mixer(hidden, LENGTHS).sum().backward()
    assert (hidden[2].grad > 0).all()


@pytest.mark.parametrize("blocks", [[], [1, 2, 1]])
def test_blocks_must_be_distinct(blocks):
    with pytest.raises(ValueError, match="distinct blocks"):
        BlockMixer(blocks=blocks, d_model=4)

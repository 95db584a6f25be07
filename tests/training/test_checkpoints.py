"""A checkpoint counts once it is whole."""

import pytest
import torch
from speechbrain.utils import distributed

from qieemo_sb.training.checkpoints import Checkpointer, EpochCounter


@pytest.fixture
def layer():
    return torch.nn.Linear(2, 2)


@pytest.fixture
def checkpointer(tmp_path, layer):
    return Checkpointer(str(tmp_path), recoverables={"layer": layer})


def test_what_was_saved_comes_back(checkpointer, layer):
    checkpointer.save_and_keep_only(meta={"UA": 0.5})
    before = layer.weight.detach().clone()
    layer.weight.data.zero_()
    found = checkpointer.recover_if_possible()
    assert found.meta["UA"] == 0.5
    assert torch.equal(layer.weight, before)


def test_one_that_was_interrupted_is_passed_over(checkpointer, layer):
    checkpointer.save_checkpoint(meta={"step": 1})

    def killed(obj, path):
        path.write_bytes(b"")
        raise KeyboardInterrupt

    checkpointer.custom_save_hooks["layer"] = killed
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save_checkpoint(meta={"step": 2})
    assert [c.meta["step"] for c in checkpointer.list_checkpoints()] == [1]
    assert checkpointer.recover_if_possible().meta["step"] == 1


def test_other_processes_hear_of_it_once_it_is_whole(checkpointer, monkeypatch):
    seen = []

    def broadcast(result):
        if not distributed.MAIN_PROC_ONLY:  # as SpeechBrain's: not within
            seen.append(len(checkpointer.list_checkpoints()))
        return result

    monkeypatch.setattr(distributed, "ddp_broadcast", broadcast)
    checkpointer.save_checkpoint()
    assert seen == [1]


def epochs(counter, scores):
    """Go through the epochs that there are → their numbers."""
    gone = []
    for epoch in counter:
        counter.update_metric(scores[epoch - 1])
        gone.append(epoch)
    return gone


@pytest.mark.parametrize("direction", ["max", "min"])
def test_a_plateau_ends(direction):
    counter = EpochCounter(9, 3, direction)
    assert epochs(counter, [0.5] * 9) == [1, 2, 3, 4]
    assert counter.best_limit == 1


def test_a_late_gain_counts_and_no_patience_is_all_of_it():
    scores = [0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.2, 0.1]
    assert epochs(EpochCounter(8, 2, "max"), scores) == [1, 2, 3, 4, 5, 6]
    assert epochs(EpochCounter(8, None, "max"), scores) == [*range(1, 9)]


def resumed(tmp_path, after, limit, patience):
    """A counter that goes on from what another left after some epochs."""
    counter = EpochCounter(9, 2, "max")
    folder = str(tmp_path / str(after))
    checkpointer = Checkpointer(folder, {"counter": counter})
    for epoch, score in zip(counter, [0.1, 0.5, 0.4, 0.4], strict=False):
        counter.update_metric(score)
        if epoch == after:
            break
    checkpointer.save_checkpoint()
    counter = EpochCounter(limit, patience, "max")
    Checkpointer(folder, {"counter": counter}).recover_if_possible()
    return counter


def test_what_was_best_is_not_forgotten(tmp_path):
    counter = resumed(tmp_path, 3, limit=9, patience=2)
    assert (counter.best_limit, counter.best_score) == (2, 0.5)
    assert epochs(counter, [0.0] * 3 + [0.4] * 6) == [4]


def test_a_stopped_run_goes_on_with_more_patience_alone(tmp_path):
    assert epochs(resumed(tmp_path, 4, limit=20, patience=2), [0] * 20) == []
    counter = resumed(tmp_path, 4, limit=20, patience=4)
    assert epochs(counter, [0] * 20) == [5, 6]


def test_fewer_than_no_epochs_are_refused():
    assert list(EpochCounter(0, 3, "max")) == []
    with pytest.raises(ValueError, match="number_of_epochs is -1"):
        EpochCounter(-1, 3, "max")

"""A checkpoint counts once it is whole."""

import pytest
import torch
from speechbrain.utils import distributed

from qieemo_sb.checkpoints import Checkpointer


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

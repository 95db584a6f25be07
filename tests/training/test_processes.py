"""Leaving a process group, where there is one."""

from torch import distributed

from qieemo_sb.training.processes import leave_process_group


def test_the_group_is_left(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    leave_process_group()
    assert not distributed.is_initialized()


def test_without_a_group_nothing_happens():
    assert not distributed.is_initialized()
    leave_process_group()

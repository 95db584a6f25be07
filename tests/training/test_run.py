"""The start and the end of a run."""

from torch import distributed

from qieemo_sb.training.run import leave_process_group


def test_a_process_group_is_left_where_there_is_one(tmp_path):
    leave_process_group()
    store = f"file://{tmp_path}/store"
    distributed.init_process_group(
        "gloo", init_method=store, rank=0, world_size=1
    )
    leave_process_group()
    assert not distributed.is_initialized()

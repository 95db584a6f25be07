"""The end of a training on several processes."""

import time

import torch

# A thread of gloo needs far less; no process notices it.
SECONDS = 0.1


def leave_process_group():
    """Leave the group that ``ddp_init_group`` made, if it made one.

    Gloo's threads drop a collective's tensors after it has ended, and need
    Python's lock for that. Python being shut down by then, the process would
    abort although all went well (github.com/pytorch/pytorch/issues/190489, one
    short run in ten). Sleeping gives them the lock; a barrier does not, nor
    leaving the group, whose threads DDP keeps alive.
    """
    if torch.distributed.is_initialized():
        time.sleep(SECONDS)
        torch.distributed.destroy_process_group()

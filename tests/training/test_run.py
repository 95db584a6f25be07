"""The start and the end of a run, and the run before it that chooses."""

import resource
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import ruamel.yaml
import torch
from safetensors.torch import save_file
from torch import distributed

from qieemo_sb.errors import CorpusError, QieemoError
from qieemo_sb.training.run import (
    choose_epochs,
    leave_process_group,
    lock_folder,
    plain_errors,
    start,
)

YAML = """\
seed: 1
data_folder: here
skip_prep: False
refit: False
calibrate: False
number_of_epochs: 10
output_folder: results/x
save_folder: !ref <output_folder>/save
train_annotation: !ref <output_folder>/train.json
valid_annotation: !ref <output_folder>/valid.json
test_annotation: !ref <output_folder>/test.json
"""
RUN_OPTS = {"jit": False, "jit_module_keys": None, "device": None}


@pytest.fixture
def choose(tmp_path):
    """Choose with a training whose best epoch is 4 → options, trainings."""
    trainings = []

    def train(hparams, run_opts):
        trainings.append(hparams)
        found = {"UA": SimpleNamespace(meta={"epoch": 4})}
        checkpointer = SimpleNamespace(
            find_checkpoint=lambda max_key: found[max_key]
        )
        brain = SimpleNamespace(
            best={"max_key": "UA"}, checkpointer=checkpointer
        )
        return brain, "test data"

    def run(**options):
        (tmp_path / "a.yaml").write_text(YAML)
        lines = [f"output_folder: {tmp_path}/x"]
        lines += [f"{key}: {value}" for key, value in options.items()]
        given = "\n".join(lines)
        found = choose_epochs(train, tmp_path / "a.yaml", RUN_OPTS, given)
        return ruamel.yaml.YAML(typ="safe").load(found), trainings

    return run


def test_without_refit_no_run_chooses(choose, tmp_path):
    options, trainings = choose(seed=3)
    assert options == {"seed": 3, "output_folder": f"{tmp_path}/x"}
    assert trainings == []


def test_with_refit_a_run_chooses_how_long_to_train(choose, tmp_path):
    options, (chosen,) = choose(refit=True, seed=3)
    assert options == {
        "seed": 3,
        "refit": True,
        "number_of_epochs": 4,
        "output_folder": f"{tmp_path}/x",
    }
    assert (chosen["refit"], chosen["seed"]) == (False, 3)
    assert chosen["number_of_epochs"] == 10
    folder = f"{tmp_path}/x/selection"
    assert chosen["save_folder"] == f"{folder}/save"
    assert chosen["valid_annotation"] == f"{folder}/valid.json"


def test_manifests_that_are_given_are_those_of_both_runs(choose, tmp_path):
    _, (chosen,) = choose(refit=True, skip_prep=True)
    assert chosen["save_folder"] == f"{tmp_path}/x/selection/save"
    for split in ("train", "valid", "test"):
        assert chosen[f"{split}_annotation"] == f"{tmp_path}/x/{split}.json"


def test_a_process_group_is_left_where_there_is_one(tmp_path):
    leave_process_group()
    store = f"file://{tmp_path}/store"
    distributed.init_process_group(
        "gloo", init_method=store, rank=0, world_size=1
    )
    leave_process_group()
    assert not distributed.is_initialized()


def test_a_device_that_is_not_there(tmp_path):
    options = {**RUN_OPTS, "device": "abacus"}
    with pytest.raises(QieemoError, match="abacus cannot be used here"):
        start(tmp_path / "a.yaml", options, "")


TRAIN = """
import os, sys
from qieemo_sb.training.run import lock_folder
lock = lock_folder(sys.argv[1])
os.fork() or sys.stdin.read()  # a process that loads data lives on
print("locked", flush=True)
sys.stdin.read()
"""


def test_two_trainings_do_not_share_a_folder(tmp_path):
    folder = tmp_path / "save"
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(CorpusError, match=f"is going on in {folder}: "):
            lock_folder(folder)
        other.kill()
        other.wait()
        with lock_folder(folder), lock_folder(tmp_path / "another"):
            pass
    lock_folder(folder).close()


@pytest.fixture
def small_disk():
    """No file may have more than 10 000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


NUMBERS = torch.arange(100_000.0)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(100_000)),
        lambda path: path.write_text("a" * 100_000),
        lambda path: torch.save(NUMBERS, path),
        lambda path: np.save(path, NUMBERS.numpy()),
        lambda path: NUMBERS.numpy().tofile(path),
        lambda path: save_file({"a": NUMBERS}, path),
    ],
    ids=["bytes", "text", "torch", "numpy", "array", "safetensors"],
)
def test_a_full_disk_is_one_line(tmp_path, small_disk, write):
    with pytest.raises(SystemExit) as caught, plain_errors():
        write(tmp_path / "a.npy")
    assert str(caught.value).startswith("\nThe disk is full (")
    assert caught.value.code.count("\n") == 1


def test_other_errors_are_not_hidden():
    with pytest.raises(SystemExit, match="too short"), plain_errors():
        raise QieemoError("too short")
    for error in (OSError(2, "No such file"), RuntimeError("mat1, mat2")):
        with pytest.raises(type(error)), plain_errors():
            raise error

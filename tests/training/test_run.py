"""The start and the end of a run, and the run before it that chooses."""

from types import SimpleNamespace

import pytest
import ruamel.yaml
from torch import distributed

from qieemo_sb.training.run import choose_epochs, leave_process_group

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
RUN_OPTS = {"jit": False, "jit_module_keys": None}


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

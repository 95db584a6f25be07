"""Options of a run and of the checkpoints that it goes on from."""

import json

import pytest

from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.errors import CorpusError
from qieemo_sb.training.resume import differences, keep_data, keep_options

YAML = """
seed: 1
output_folder: !ref results/<seed>
cache_folder: results/cache
save_folder: !ref <output_folder>/save
number_of_epochs: 10
width: 96
dynamic_batch_sampler: {max_batch_ex: 16}
part: !new:collections.Counter {size: !ref <width>}
modules: {part: !ref <part>}
rate: !new:collections.Counter {epochs: !ref <number_of_epochs>}
"""


@pytest.fixture
def keep(tmp_path):
    """Start a run with options; those of its checkpoints are kept."""
    path = tmp_path / "a.yaml"
    path.write_text(YAML)
    return lambda options="": keep_options(tmp_path / "save", path, options)


@pytest.fixture
def begun(keep, tmp_path):
    """The same, where a run has left a checkpoint."""
    keep()
    (tmp_path / "save/CKPT+1").mkdir()
    return keep


@pytest.mark.parametrize(
    "options",
    [
        "",
        "number_of_epochs: 20",
        "output_folder: elsewhere",
        "cache_folder: elsewhere",
        "dynamic_batch_sampler: {max_batch_ex: 4}",
    ],
)
def test_a_run_goes_on(begun, options):
    begun(options)


@pytest.mark.parametrize(
    "options, told",
    [
        ("width: 8", "width: 96 before, now 8"),
        ("seed: 2", "seed: 1 before, now 2"),
        ("cache_folder: null", "cache_folder: . before, now None"),
        ("part: null", "part: !new:collections.Counter before, now None"),
    ],
)
def test_another_run_does_not(begun, options, told):
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(CorpusError, match="other options") as refusal:
            begun(options)
    assert str(refusal.value).splitlines()[1:-1] == [f"  {told}"]
    begun()


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(keep):
    keep("width: 8")
    keep("width: 9")


def test_an_option_that_the_yaml_does_not_have(keep):
    with pytest.raises(CorpusError, match="weight"):
        keep("weight: 1")


def test_objects_are_told_if_nothing_else_is():
    before, now = {"a": ["!new:x", {"b": 1}]}, {"a": ["!new:x", {"b": 2}]}
    assert differences(before, now) == ["a"]


@pytest.fixture
def lists(tmp_path):
    """Make the utterances of two splits, read from a manifest."""
    path = tmp_path / "manifest.json"

    def make(train="ann", test="bob", **more):
        found = {}
        for name, speaker in (("train", train), ("test", test)):
            entry = {"wav": f"{{data_root}}/{speaker}.wav", "spk_id": speaker}
            entries = {speaker: {**entry, "length": 1.0, **more}}
            path.write_text(json.dumps(entries))
            found[name] = read_manifest(path)
        return found

    return make


def test_a_run_goes_on_with_the_same_lists(tmp_path, lists):
    keep_data(tmp_path / "save", lists())
    (tmp_path / "save/CKPT+1").mkdir()
    keep_data(tmp_path / "save", lists(length=2.0))


@pytest.mark.parametrize(
    "change, told",
    [
        ({"test": "ann"}, "test changed"),
        ({"train": "bob", "test": "ann"}, "train changed\n  test changed"),
        ({"emo": "sad"}, "train changed\n  test changed"),
    ],
)
def test_nobody_moves_from_training_to_test(tmp_path, lists, change, told):
    keep_data(tmp_path / "save", lists())
    keep_data(tmp_path / "save", lists(test="eve"))  # nothing is trained yet
    keep_data(tmp_path / "save", lists())
    (tmp_path / "save/CKPT+1").mkdir()
    for _ in range(2):
        with pytest.raises(CorpusError, match=told):
            keep_data(tmp_path / "save", lists(**change))
    keep_data(tmp_path / "save", lists())

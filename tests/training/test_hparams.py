"""A yaml and a command line, before anything is built."""

import json
import os
from pathlib import Path

import pytest
from standin import YAML

from qieemo_sb.errors import CorpusError
from qieemo_sb.training.hparams import (
    check_corpus,
    load_part,
    plain_options,
    resolve,
)

DEMO = Path(__file__).parents[2] / "recipes/Synthetic/qieemo/hparams/demo.yaml"


@pytest.fixture
def yaml(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(YAML)
    return path


def test_a_part_is_built_with_options_and_references_filled_in(yaml):
    built = load_part(yaml, "width: 10", "part", "nothing like it")
    assert built == {"seed": 1986, "part": {"size": 20}}
    assert load_part(yaml, "width: 10", "size", width=11)["size"] == 22


def test_a_part_of_a_real_recipe_is_built_with_the_seed_of_all():
    built = [load_part(DEMO, "", key) for key in ("encoder", "model")]
    weights = built[0]["encoder"].conv1.weight
    assert (weights == built[1]["model"].encoder.conv1.weight).all()


def test_plain_options_are_json_and_have_tags_as_values(yaml):
    options = plain_options(yaml, "fold: 2", output_folder=".", csv_file=".")
    assert json.loads(json.dumps(options)) == options
    assert options["part"] == ["!new:collections.Counter", {"size": 192}]
    assert options["save_folder"] == "./save"
    assert options["fold"] == 2 and "csv_file" not in options


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("widht: 1", "there is no option widht; is width meant[?]$"),
        ("zzz: 1\nfolt: 2", "no option zzz, and .* folt; is fold meant"),
        ("width: 1\nwidth: 2", "duplicate key"),
        ("width: [1", "flow sequence"),
        ("width 1", "--key=value, not 'width 1'"),
        ("data_folder: !PLACEHOLDER", "must be replaced"),
    ],
)
def test_a_command_line_that_cannot_be_read(yaml, overrides, message):
    with pytest.raises(CorpusError, match=message):
        resolve(yaml, overrides)


def test_a_yaml_that_is_not_there():
    with pytest.raises(CorpusError, match="nowhere.yaml cannot be read"):
        resolve("nowhere.yaml")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(CorpusError, match="recipe.yaml .* a pipe"):
        resolve(tmp_path / "recipe.yaml")


def test_a_missing_corpus_says_where_to_get_it(yaml):
    with pytest.raises(CorpusError, match="zenodo.org"):
        check_corpus(yaml)
    check_corpus(yaml, "data_folder: data")
    check_corpus(yaml, "skip_prep: True")

"""What a yaml and a command line say, before anything is built."""

import json
from pathlib import Path

import pytest

from qieemo_sb.errors import CorpusError, EvaluationError
from qieemo_sb.evaluation.recipe import Recipe, one_line

IEMOCAP = Path(__file__).parents[2] / "recipes/IEMOCAP/qieemo/hparams"


@pytest.fixture
def recipe(place):
    def make(*arguments):
        return Recipe("recipe.yaml", arguments)

    return make


def test_options_and_references_are_filled_in(recipe):
    assert recipe("--width=10").tree["size"] == 20
    assert recipe("--width", "11").tree["size"] == 22


def test_parts_are_built_and_the_rest_is_not(recipe):
    assert recipe("--width=10").build("part") == {
        "seed": 1986,
        "part": {"size": 20},
    }


def test_parts_of_a_real_recipe():
    recipe = Recipe(IEMOCAP / "demo.yaml", ["--emotional_blocks=[1, 4]"])
    model = recipe.build("model")["model"]
    assert model.blocks == [1, 4]
    built = recipe.build("encoder", "nothing like it")
    assert built.keys() == {"seed", "encoder"}


def test_the_same_seed_builds_the_same_weights():
    first, second = (
        Recipe(IEMOCAP / "demo.yaml").build("encoder")["encoder"]
        for _ in range(2)
    )
    assert (first.conv1.weight == second.conv1.weight).all()


@pytest.mark.parametrize(
    "argument",
    [
        "--width=95",
        "--seed=1",
        "--data_folder=x",
        "--device=cuda",
        "--cache_folder=null",
    ],
)
def test_what_decides_a_result_is_told_apart(recipe, argument):
    assert recipe(argument).decisive() != recipe().decisive()


@pytest.mark.parametrize(
    "argument",
    ["--output_folder=x", "--cache_folder=x", "--noprogressbar", "--width=96"],
)
def test_what_does_not_decide_it_is_not(recipe, argument):
    assert recipe(argument).decisive() == recipe().decisive()


def test_what_ones_own_list_holds_decides(tmp_path):
    table = tmp_path / "a.csv"
    found = []
    for text in ("a.wav,sad", "a.wav,sad", "a.wav,glad"):
        table.write_text(text)
        options = ["--data_folder=x", f"--csv_file={table}"]
        found.append(Recipe(IEMOCAP / "manifest.yaml", options).decisive())
    assert found[0] == found[1] != found[2]


def test_what_decides_can_be_written_and_read(recipe):
    decisive = recipe("--device=cpu").decisive()
    assert json.loads(json.dumps(decisive)) == decisive
    assert decisive["part"] == ["!new:collections.Counter", {"size": 192}]


@pytest.mark.parametrize(
    "yaml, arguments, folds",
    [
        ("qieemo.yaml", [], range(1, 6)),
        ("qieemo.yaml", ["--protocol=speaker"], range(1, 11)),
        ("qieemo.yaml", ["--protocol=random"], range(1, 11)),
        ("demo.yaml", [], range(1, 6)),
        ("../../../RAVDESS/qieemo/hparams/qieemo.yaml", [], range(1, 7)),
    ],
)
def test_folds_are_those_of_the_corpus(yaml, arguments, folds):
    recipe = Recipe(IEMOCAP / yaml, arguments)
    assert recipe.folds() == list(folds)
    assert recipe.check_folds(None) == list(folds)
    assert recipe.check_folds([3, 1]) == [3, 1]


@pytest.mark.parametrize(
    "folds, message",
    [
        ([1, 7, 8], "no fold 7, 8: there are 1, 2, 3, 4, 5, 6"),
        ([2, 2], "different numbers"),
        ([], "different numbers"),
    ],
)
def test_folds_that_cannot_be_run(recipe, folds, message):
    with pytest.raises(EvaluationError, match=message):
        recipe().check_folds(folds)


def test_a_corpus_of_ones_own_has_one_division():
    recipe = Recipe(IEMOCAP / "manifest.yaml", ["--data_folder=x"])
    assert recipe.check_folds([1]) == [1]
    for folds in (None, [1, 2]):
        with pytest.raises(EvaluationError, match="divided once"):
            recipe.check_folds(folds)


def test_an_unknown_protocol_names_those_that_there_are():
    recipe = Recipe(IEMOCAP / "qieemo.yaml", ["--protocol=loto"])
    with pytest.raises(CorpusError, match="loso, speaker, random"):
        recipe.folds()


def test_a_missing_corpus_is_told_as_train_py_tells_it(recipe):
    with pytest.raises(CorpusError, match="zenodo.org"):
        recipe().check_data()
    recipe("--data_folder=data").check_data()
    recipe("--skip_prep=True").check_data()


def test_results_over_folds_go_beside_those_of_a_fold(recipe):
    assert recipe().folder("cv") == Path("results/x/cv")
    assert recipe("--output_folder=here").folder("cv") == Path("here/cv")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--widht=1"], "'widht' not found"),
        (["--width=1", "--width=2"], "duplicate key"),
        (["--width=[1"], "flow sequence"),
        (["width", "1"], "--key=value, not 'width 1'"),
        (["--data_folder=!PLACEHOLDER"], "must be replaced"),
    ],
)
def test_a_command_line_that_cannot_be_read(recipe, arguments, message):
    with pytest.raises(EvaluationError, match=message):
        recipe(*arguments)


def test_a_yaml_that_is_not_there(place):
    with pytest.raises(EvaluationError, match="nowhere.yaml cannot be read"):
        Recipe("nowhere.yaml")


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "null"),
        (True, "true"),
        ("a b", "a b"),
        ([1, None], "[1, null]"),
        ({"a": {"b": 1}}, "{a: {b: 1}}"),
    ],
)
def test_a_value_in_one_line(value, text):
    assert one_line(value) == text


def test_a_whole_yaml_in_one_line_has_no_comments(recipe):
    text = one_line(recipe().tree)
    assert "#" not in text and "\n" not in text
    assert "part: !new:collections.Counter {size: 192}" in text

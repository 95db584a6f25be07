"""Grids, rows and their table."""

import json
import re
from pathlib import Path

import pytest
from standin import TRAIN

from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import ablation
from qieemo_sb.evaluation import cross_validation as crossval
from qieemo_sb.evaluation.ablation import plan_rows, read_grid
from qieemo_sb.training.hparams import load_part

RECIPES = Path(__file__).parents[2] / "recipes"
GRID = """\
hparams: recipe.yaml
axes:
    width:
        96: {}
        half: {width: 48}
    part:
        there: {}
        not there: {part: null}
rows:
    another script:
        script: other.py
"""


@pytest.fixture
def grid(place):
    def write(text=GRID):
        (place / "grid.yaml").write_text(text)
        return place / "grid.yaml"

    return write


def test_first_nothing_then_an_axis_each_then_the_rest(grid):
    hparams, rows = read_grid(grid())
    assert hparams.name == "recipe.yaml" and hparams.exists()
    assert [(row.name, row.arguments, row.script) for row in rows] == [
        ("default", [], None),
        ("width: half", ["--width=48"], None),
        ("part: not there", ["--part=null"], None),
        ("another script", [], "other.py"),
    ]
    assert rows[2].folder == "part_not_there"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("96: {}", "96: {width: 96}", "first choice, 96, is what recipe.yaml"),
        ("axes:", "axis:", "a grid has"),
        ("{width: 48}", "{part: '!new:dict {a: 1}'}", "needs them in a list"),
        ("{width: 48}", "{data_folder: a=b}", "cannot hold a '='"),
        ("half:", "'half!':\n            {width: 47}\n        half:", "alike"),
        ("{}", "{", "cannot be read"),
        ("{width: 48}", "{size: !ref <width>}", "with tags stand in quotes"),
    ],
)
def test_grids_that_cannot_be(grid, old, new, message):
    with pytest.raises(EvaluationError, match=message):
        read_grid(grid(GRID.replace(old, new, 1)))


def test_an_object_of_another_class_takes_the_place_of_the_first(grid):
    text = GRID.replace(
        "{width: 48}", '{part: "!new:dict [[[a, !ref <width>]]]"}'
    )
    hparams, rows = read_grid(grid(text))
    option = rows[1].arguments[0].removeprefix("--").replace("=", ": ", 1)
    assert load_part(hparams, option, "part")["part"] == {"a": 96}


# -- Tables


@pytest.fixture
def ablate(grid, monkeypatch, capsys):
    """Plan and run a grid → what ablation.json holds, and the printed rows."""
    (grid().parent / "other.py").write_text(TRAIN)
    sizes = {"trained": 1_500_000, "total": 20_000_000}
    monkeypatch.setattr(ablation, "count_parameters", lambda *_: sizes)
    for name in ("columns", "confusion", "comparison"):
        monkeypatch.setattr(crossval.plots, name, lambda *_: None)

    def run(*arguments, folds=(1, 2), names=None):
        hparams, rows = read_grid("grid.yaml", names)
        arguments = ["--data_folder=data", *arguments]
        place = Path("train.py"), hparams, arguments, Path("out")
        every = crossval.Configuration(*place, folds, (1, 3))
        planned = plan_rows(rows, every)
        result = ablation.ablate(planned, Path("out"))
        printed = capsys.readouterr().out.split("\n")
        return result, [x for x in printed if x and not x.startswith("[")]

    return run


def calls(row):
    return len(list(Path("out", row).glob("fold_*/*/calls.txt")))


def test_some_rows_alone_are_run_in_the_grids_order(ablate):
    result, _ = ablate(folds=[1], names=["another script", "width: half"])
    names = [row["name"] for row in result["rows"]]
    assert names == ["width: half", "another script"]
    with pytest.raises(EvaluationError, match="no row \\['half'\\]: it has"):
        ablate(folds=[1], names=["half"])


def test_every_row_is_cross_validated_with_its_options(ablate):
    result, lines = ablate("--noprogressbar")
    assert [row["name"] for row in result["rows"]] == [
        "default",
        "width: half",
        "part: not there",
        "another script",
    ]
    assert lines == [row["name"] for row in result["rows"]]
    for row in ("default", "width_half", "part_not_there", "another_script"):
        assert calls(row) == 4
    assert "--width=48" in Path("out/width_half/fold_1/3/calls.txt").read_text()
    state = json.loads(Path("out/another_script/fold_1/1/run.json").read_text())
    assert state["options"]["script"] == "other.py"


def test_what_a_row_sets_is_the_rows(ablate):
    names = ["default", "width: half"]
    ablate("--width", "10", "--size=3", folds=[1], names=names)
    said = [
        Path("out", row, "fold_1/1/calls.txt").read_text().split()
        for row in ("default", "width_half")
    ]
    assert ["--width" in words for words in said] == [True, False]
    assert ["--width=48" in words for words in said] == [False, True]
    assert all("--size=3" in words for words in said)


def test_a_row_has_its_size_its_time_and_its_difference(ablate):
    # Recalls fold / 4 and seed / 4, but the first row's fold 1 gets one more.
    script = TRAIN.replace(
        "recalls = [fold / 4,",
        'more = fold == 1 and "--width=48" not in sys.argv\n'
        "recalls = [(fold + more) / 4,",
    )
    Path("train.py").write_text(script)
    result, _ = ablate()
    first, second, _, other = result["rows"]
    assert first["difference"] is None
    assert second["weighted_accuracy"]["mean"] == pytest.approx(7 / 16)
    # Folds differ by -1/8 and 0: mean -1/16, deviation sqrt(2) / 16.
    assert second["difference"]["mean"] == pytest.approx(-1 / 16)
    assert second["difference"]["std_over_folds"] == pytest.approx(2**0.5 / 16)
    assert first["parameters"]["trained"] == 1_500_000
    assert other["parameters"] is None
    text = re.sub(" +", " ", Path("out/ablation.md").read_text())
    assert (
        "| width: half | 1.50 | 20.00 | 0.438 ± 0.088 | 0.177 | "
        "-0.062 ± 0.088 | 0.438 ± 0.088 | 0.500 ± 0.000 | 0.0 | 4 of 4 |"
    ) in text
    assert "| another script | – | – | 0.438" in text
    assert json.loads(Path("out/ablation.json").read_text())["rows"][1][
        "options"
    ] == ["--width=48"]


def test_what_is_finished_is_not_run_again(ablate):
    for folds in ([1], [1, 2]):
        ablate(folds=folds, names=["default"])
    started = Path("out/default/fold_1/1/calls.txt").read_text()
    assert started.count("\n") == 1 and calls("default") == 4


def test_a_row_that_fails_does_not_stop_the_others(ablate):
    Path("broken").touch()
    names = ["default", "width: half"]
    result, _ = ablate(names=names)
    assert [row["finished"] for row in result["rows"]] == [2, 2]
    result, _ = ablate(folds=(2,), names=names)
    assert [row["finished"] for row in result["rows"]] == [0, 0]
    text = re.sub(" +", " ", Path("out/ablation.md").read_text())
    assert "| default | 1.50 | 20.00 | – | – | – | – | – | – | 0 of 2 |" in text


def test_a_row_with_an_unknown_option_is_seen_before_any_is_run(ablate, grid):
    grid(GRID.replace("{part: null}", "{prat: null}"))
    with pytest.raises(EvaluationError, match="not there': .*no option prat"):
        ablate()
    assert not Path("out").exists()


# -- The grids that ship


@pytest.mark.parametrize("corpus", ["IEMOCAP", "RAVDESS"])
def test_our_grid_starts_from_the_corpus_own_yaml(corpus):
    folder = RECIPES / corpus / "qieemo/hparams"
    hparams, rows = read_grid(folder / "ablation.yaml")
    assert hparams == folder / "qieemo.yaml"
    assert len(rows) == 15


ATTENTIVE, STATISTICS = "AttentiveStatisticsPooling", "BlockStatistics"
BOTH, ENDS = ("BlockMixer", "PPGHead"), (ATTENTIVE, STATISTICS)
LINEAR = ("WeightedSum", None, "Projection", None, "AveragePooling", None)
MODELS = {
    "default": (*BOTH, "MMF", "CMA", *ENDS),
    "stream: emotional": ("BlockMixer", None, "Concatenation", None, *ENDS),
    "stream: PPG": (None, "PPGHead", "Concatenation", None, ATTENTIVE, None),
    "fusion: concatenation": (*BOTH, "Concatenation", None, *ENDS),
    "fusion: MMF": (*BOTH, "MMF", None, *ENDS),
    "fusion: CMA": (*BOTH, "Concatenation", "CMA", *ENDS),
    "fusion: CMA, then MMF": (*BOTH, "CMAFirst", None, *ENDS),
    "head: average": (*BOTH, "MMF", "CMA", "AveragePooling", STATISTICS),
    "statistics of blocks: none": (*BOTH, "MMF", "CMA", ATTENTIVE, None),
    "last block, average, linear": LINEAR,
    "weighted sum of blocks, average, linear": LINEAR,
}
BLOCKS = {  # those that the emotional stream reads
    "blocks: 3": [3],
    "blocks: last": [4],
    "blocks: all": [1, 2, 3, 4],
    "last block, average, linear": [4],
    "weighted sum of blocks, average, linear": [0, 1, 2, 3, 4],
}


def configuration(yaml, arguments):
    return crossval.Configuration(Path("train.py"), yaml, arguments, Path())


@pytest.fixture
def model():
    """Build a row of our grid on the demo's encoder, which has four blocks."""

    def build(name):
        _, rows = read_grid(RECIPES / "IEMOCAP/qieemo/hparams/ablation.yaml")
        row = next(row for row in rows if row.name == name)
        options = [option.replace(", 5, 6]", "]") for option in row.arguments]
        demo = RECIPES / "Synthetic/qieemo/hparams/demo.yaml"
        overrides = configuration(demo, options).overrides
        return load_part(demo, overrides, "model")["model"]

    return build


@pytest.mark.parametrize("name", MODELS)
def test_a_row_of_our_grid_has_the_parts_that_it_names(model, name):
    model = model(name)
    parts = ("mixer", "ppg_head", "mmf", "cma", "pooling")
    parts += ("block_statistics",)
    kinds = [type(getattr(model, part)).__name__ for part in parts]
    assert kinds == [str(kind) if kind else "NoneType" for kind in MODELS[name]]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_row_of_our_grid_reads_the_blocks_that_it_names(model, name):
    assert model(name).mixer.blocks == BLOCKS[name]


def test_parameters_are_counted():
    demo = RECIPES / "Synthetic/qieemo/hparams/demo.yaml"
    found = ablation.count_parameters(
        configuration(demo, ["--encoder={trainable_above: null}"])
    )
    model = load_part(demo, "", "model")["model"]
    lobes = sum(p.numel() for p in model.lobes.parameters())
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert found == {"trained": lobes, "total": lobes + encoder}


def test_a_model_that_cannot_be_built_says_why():
    demo = RECIPES / "Synthetic/qieemo/hparams/demo.yaml"
    with pytest.raises(EvaluationError, match="needs a mixer, a ppg_head"):
        parts = ("mixer", "ppg_head", "mmf", "cma")
        words = [f"--{x}=null" for x in parts]
        ablation.count_parameters(configuration(demo, words))

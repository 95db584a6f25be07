"""Plans, resumption, failures and sums, with a script in train.py's place."""

import json
import pickle
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from standin import TRAIN

from qieemo_sb.errors import EvaluationError, QieemoError
from qieemo_sb.evaluation import cross_validation as crossval
from qieemo_sb.evaluation.cross_validation import (
    Configuration,
    cross_validate,
    execute,
    plan,
)


@pytest.fixture(autouse=True)
def sketch(monkeypatch, request):
    """Draw nothing, which takes longer than all the rest."""
    if "picture" not in request.node.name:
        for name in ("columns", "confusion"):
            monkeypatch.setattr(crossval.plots, name, lambda *_: None)


@pytest.fixture
def make_plan(place):
    def make(*arguments, folds=(1, 2, 3), seeds=(1, 3), folder="out"):
        arguments = ["--data_folder=data", *arguments]
        files = Path("train.py"), "recipe.yaml", arguments, Path(folder)
        return plan(Configuration(*files, folds, seeds))

    return make


@pytest.fixture
def validate(make_plan, capsys):
    """Plan and run → what cv.json holds, and the lines that were printed."""

    def run(*arguments, executor=crossval.one_by_one, **options):
        runs = make_plan(*arguments, **options)
        about = {"title": "A title", "command": "python cross_validate.py"}
        folder = Path(options.get("folder", "out"))
        result = cross_validate(runs, folder, executor, about)
        return result, capsys.readouterr().out.split("\n[")

    return run


def calls(folder):
    """The command lines that a run was started with."""
    return Path(folder, "calls.txt").read_text().splitlines()


def read(name):
    return json.loads(Path("out", name).read_text())


def table(name="cv.md"):
    """The text of a table, without the blanks that align its columns."""
    return re.sub(" +", " ", Path("out", name).read_text())


# -- Plans


def test_a_run_a_fold_and_seed(make_plan):
    runs = make_plan("--width=10")
    assert [(r.fold, r.seed) for r in runs] == [
        (fold, seed) for fold in (1, 2, 3) for seed in (1, 3)
    ]
    folder = Path("out/fold_2/3").absolute()
    assert (runs[3].folder, runs[3].cwd) == (folder, Path.cwd())
    assert runs[3].command == (
        sys.executable,
        str(Path("train.py").absolute()),
        "recipe.yaml",
        "--data_folder=data",
        "--width=10",
        "--fold=2",
        "--seed=3",
        f"--output_folder={folder}",
        "--noprogressbar",
    )


def test_all_folds_of_the_corpus_unless_told(make_plan):
    runs = make_plan(folds=None, seeds=[1])
    assert [run.fold for run in runs] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ([], {"folds": [7, 8]}, "no fold 7, 8: there are"),
        ([], {"folds": [2, 2]}, "--folds: different"),
        ([], {"seeds": [1, 1]}, "--seeds: different"),
        (["--fold=1"], {}, 'Given twice: found duplicate key "fold"'),
        (["--seed", "1"], {}, 'Given twice: found duplicate key "seed"'),
        (["--folds=null"], {"folds": None}, "divided once"),
        (["--folds=null"], {"folds": [1, 2]}, "divided once"),
    ],
)
def test_plans_that_cannot_be(make_plan, arguments, options, message):
    with pytest.raises(QieemoError, match=message):
        make_plan(*arguments, **options)


def test_a_corpus_that_is_divided_once_has_several_seeds(make_plan):
    runs = make_plan("--folds=null", folds=[1], seeds=[1, 2])
    assert [run.seed for run in runs] == [1, 2]


def test_what_a_list_holds_is_an_option(place, make_plan):
    recipe = place / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "csv_file: a.csv\n")
    found = []
    for text in ("a.wav,sad", "a.wav,sad", "a.wav,glad"):
        (place / "a.csv").write_text(text)
        found.append(make_plan(folds=[1], seeds=[1])[0].options)
    assert found[0] == found[1] != found[2]


# -- Runs


def test_every_run_is_executed_once_and_added_up(validate):
    result, _ = validate()
    wa = result["summary"]["weighted_accuracy"]
    # Recalls fold / 4 and seed / 4: (fold / 4 + 2 / 4) / 2 by fold.
    assert wa["by_fold"] == pytest.approx({1: 3 / 8, 2: 4 / 8, 3: 5 / 8})
    assert wa["by_seed"] == pytest.approx({1: 3 / 8, 3: 5 / 8})
    assert wa["mean"] == pytest.approx(1 / 2)
    assert wa["std_over_folds"] == pytest.approx(1 / 8)
    assert wa["std_over_seeds"] == pytest.approx((1 / 32) ** 0.5)
    assert result["summary"]["pooled"]["confusion_matrix"] == [
        [2 * 6, 2 * 6],
        [3 * 4, 3 * 4],
    ]
    assert result["failed"] == []
    assert all(len(calls(run.parent)) == 1 for run in Path().glob("out/*/*/c*"))


def test_the_table_is_left_as_json_markdown_and_picture(validate):
    result, _ = validate()
    assert read("cv.json") == json.loads(json.dumps(result))
    text = table()
    assert "| WA | 0.500 | 0.125 | 0.177 |" in text
    assert "| 2 | 0.500 | 0.500 | 0.500 | 0.500 | 8 | 2 | 0.0 |" in text
    assert "| **calm** | 12 | 12 | 0.500 |" in text
    assert "python cross_validate.py" in text
    assert Path("out/cv.png").read_bytes()[1:4] == b"PNG"
    assert sorted(p.name for p in Path("out").iterdir() if p.is_file()) == [
        "confusion.png",
        "cv.json",
        "cv.md",
        "cv.png",
    ]


def test_adaptation_is_added_up_and_drawn_as_a_picture(validate):
    result, _ = validate("--adapt_to=speaker")
    assert {
        clips: found["by_fold"] for clips, found in result["adaptation"].items()
    } == {0: {1: 1 / 8, 2: 2 / 8, 3: 3 / 8}, 60: {1: 0.25, 2: 0.5, 3: 0.75}}
    # Sample deviations of 1, 2, 3 eighths and quarters.
    line = "| WA | 0.250 ± 0.125 | 0.500 ± 0.250 |"
    assert line in table()
    assert result["few_emotions"]["adapted"][1]["mean"] == 0.5
    line = "| WA, adapted | 0.500 ± 0.250 | 0.250 ± 0.125 |"
    assert line in table()
    assert Path("out/adaptation.png").read_bytes()[1:4] == b"PNG"


def test_a_line_a_run_with_its_scores(validate):
    _, lines = validate(folds=[1], seeds=[1, 3])
    assert lines[0].startswith("[1/2] fold 1, seed 1: WA 0.250, UA 0.250 (")
    assert lines[0].endswith(" min left")
    assert lines[1].startswith("2/2] fold 1, seed 3: WA 0.500, UA 0.500 (")
    assert not lines[1].endswith(" left")


# -- Resumption


def test_a_finished_run_is_not_run_again(validate):
    before, _ = validate(folds=[1, 2])
    after, lines = validate(folds=[1, 2, 3])
    assert len(calls("out/fold_1/1")) == len(calls("out/fold_3/1")) == 1
    assert "was finished" in lines[0] and "was finished" not in lines[-1]
    assert after["runs"][:4] == before["runs"]
    assert after["planned"] == len(after["runs"]) == 6


def test_a_run_that_was_stopped_goes_on_in_its_folder(make_plan, validate):
    run = make_plan()[0]
    run.folder.mkdir(parents=True)
    state = {"options": run.options, "seconds": 100.0}
    (run.folder / "run.json").write_text(json.dumps(state))
    result, _ = validate()
    assert len(calls(run.folder)) == 1
    assert result["runs"][0]["minutes"] >= 100 / 60 - 0.01


def test_where_things_are_kept_is_no_other_option(validate):
    validate(folds=[1])
    validate("--cache_folder=elsewhere", "--noprogressbar", folds=[1])
    assert len(calls("out/fold_1/1")) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--width=10"], "width: 96 before, now 10"),
        (["--part=null"], "part: !new:collections.Counter before, now None"),
        (["--device=cpu"], "device: None before, now cpu"),
    ],
)
def test_a_changed_option_is_not_taken_for_the_same_run(
    validate, arguments, message
):
    validate(folds=[1])
    before = read("fold_1/1/metrics.json")
    with pytest.raises(EvaluationError, match=message) as caught:
        validate(*arguments, folds=[1, 2])
    assert "part: " not in str(caught.value) or "part" in message
    assert read("fold_1/1/metrics.json") == before
    assert not Path("out/fold_2").exists()  # it was seen before anything ran
    validate(*arguments, folds=[1], folder="other")


def test_a_changed_yaml_is_not_taken_for_the_same_run(place, validate):
    validate(folds=[1])
    yaml = place / "recipe.yaml"
    yaml.write_text(yaml.read_text().replace("width: 96", "width: 97"))
    with pytest.raises(EvaluationError, match="width: 96 before, now 97"):
        validate(folds=[1])


def test_a_new_option_that_is_null_is_the_same_run(place, validate):
    validate(folds=[1])
    yaml = place / "recipe.yaml"
    yaml.write_text(yaml.read_text() + "also: null\n")
    validate(folds=[1])
    assert len(calls("out/fold_1/1")) == 1


def test_results_of_unknown_options_are_not_taken(validate):
    validate(folds=[1], seeds=[1])
    Path("out/fold_1/1/run.json").unlink()
    with pytest.raises(EvaluationError, match="not the options"):
        validate(folds=[1], seeds=[1])


# -- Failures


def test_a_failed_run_is_named_and_the_others_go_on(place, validate):
    (place / "broken").touch()
    result, lines = validate()
    assert [(f["fold"], f["seed"]) for f in result["failed"]] == [
        (2, 1),
        (2, 3),
    ]
    assert result["failed"][0]["console"] == "bar 2/2\nthis went wrong"
    assert "FAILED" in lines[2] and "this went wrong" in lines[2]
    assert len(result["runs"]) == 4
    text = table()
    assert "Incomplete: 4 of 6 runs" in text and "this went wrong" in text


def test_a_failed_run_is_tried_again(place, validate):
    (place / "broken").touch()
    validate()
    (place / "broken").unlink()
    result, _ = validate()
    assert result["failed"] == []
    assert len(calls("out/fold_2/1")) == 2
    assert len(calls("out/fold_1/1")) == 1


def test_where_all_fail_there_is_no_table_but_a_report(place, validate):
    (place / "broken").touch()
    result, _ = validate(folds=[2])
    assert result["summary"] is None
    assert "Incomplete: 0 of 2 runs" in Path("out/cv.md").read_text()
    assert not Path("out/cv.png").exists()


def test_an_exit_without_metrics_is_a_failure(place, validate):
    (place / "train.py").write_text("print('nothing to do')")
    result, _ = validate(folds=[1], seeds=[1])
    assert result["failed"][0]["console"] == "nothing to do"


def test_a_run_that_dies_after_its_metrics_is_a_failure(place, validate):
    (place / "train.py").write_text(TRAIN + "sys.exit('no room for it')\n")
    result, _ = validate(folds=[1], seeds=[1])
    assert result["failed"][0]["console"].endswith("no room for it")
    assert result["runs"] == []


# -- Side by side


def backwards(runs):
    """An executor whose runs end in another order."""
    for run in reversed(runs):
        yield execute(run)


def without_time(result):
    runs = [{**run, "minutes": 0} for run in result["runs"]]
    return {**result, "runs": runs}


def test_the_order_in_which_runs_end_does_not_matter(validate):
    one, _ = validate(folder="one")
    other, _ = validate(folder="other", executor=backwards)
    assert without_time(one) == without_time(other)


@pytest.fixture
def ray(monkeypatch):
    """Ray's interface as far as it is used, in this very process."""
    asked = {}

    class Task:
        def __init__(self, function):
            self.function = function

        def remote(self, run):
            return self.function, run

    def remote(**resources):
        asked.update(resources)
        return Task

    fake = SimpleNamespace(
        asked=asked,
        is_initialized=lambda: False,
        init=lambda **options: asked.update(options),
        remote=remote,
        wait=lambda waiting: (waiting[-1:], waiting[:-1]),
        get=lambda done: [function(run) for function, run in done],
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def test_on_ray_runs_are_tasks_of_their_own(validate, ray):
    def on_ray(runs):
        return crossval.on_ray(runs, num_cpus=2, num_gpus=0.5)

    one, _ = validate(folder="one")
    other, lines = validate(folder="other", executor=on_ray)
    assert without_time(one) == without_time(other)
    assert lines[0].startswith("[1/6] fold 3, seed 3")
    assert ray.asked == {
        "num_cpus": 2,
        "num_gpus": 0.5,
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "2"}},
    }


def test_without_ray_it_says_what_to_install(make_plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EvaluationError, match=r"install 'qieemo-sb\[ray\]'"):
        next(crossval.on_ray(make_plan(), num_cpus=1))


def test_a_run_travels_to_another_process(make_plan):
    run = make_plan()[0]
    assert pickle.loads(pickle.dumps(run)) == run

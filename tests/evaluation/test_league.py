"""The league: rows, differences and errors by hand."""

from pathlib import Path

import league
import pytest

from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import cross_validation as crossval
from qieemo_sb.evaluation.ablation import plan_rows

PROBED = {
    "weighted_accuracy": {"mean": 0.4, "std_over_seeds": None},
    "unweighted_accuracy": {"mean": 0.3, "std_over_seeds": None},
    "parameters": {"trained": 5, "total": 20_000_000},
}
PUBLISHED = {
    "Large": {"parameters": 637, "ravdess": [0.75, 0.8]},
    "Other": {"parameters": 317, "emodb": [0.9, None]},
}


def run(fold, seed, right):
    """Metrics of fifty clips of one class, so many of which are right."""
    metrics = dict.fromkeys(crossval.METRICS, right / 50)
    confusion = [[right, 50 - right], [0, 0]]
    facts = {"fold": fold, "seed": seed, "num_utterances": 50}
    labels = {"labels": ["sad", "happy"], "confusion_matrix": confusion}
    return {**metrics, **facts, **labels}


def compare(runs, corpus="ravdess"):
    done = {"parameters": {"total": 21_000_000}, "runs": runs}
    qieemo = {**done, "planned": 4, "finished": len(runs)}
    return league.compare(corpus, qieemo, PROBED, PUBLISHED)


def test_differences_to_the_probe_and_errors_of_the_clips():
    # Two folds of 50 clips; means of the seeds 0.5 and 0.7.
    runs = [run(1, 1, 20), run(2, 1, 30), run(1, 2, 30), run(2, 2, 40)]
    qieemo, probe, large = compare(runs)
    assert qieemo["weighted_accuracy"] == pytest.approx(0.6)
    assert qieemo["weighted_accuracy_std"] == pytest.approx(0.02**0.5)
    assert qieemo["weighted_accuracy_difference"] == pytest.approx(0.2)
    assert qieemo["unweighted_accuracy_difference"] == pytest.approx(0.3)
    # A clip counts once, however many seeds there are.
    assert qieemo["standard_error"] == pytest.approx((0.6 * 0.4 / 100) ** 0.5)
    assert probe["weighted_accuracy_difference"] == 0
    assert large["parameters"] == {"total": 637_000_000}
    assert large["weighted_accuracy"] == 0.8
    assert large["unweighted_accuracy_difference"] == pytest.approx(0.45)
    assert large["standard_error"] is None


def test_what_is_not_known_is_a_dash():
    rows = compare([], "emodb")
    assert [row["model"] for row in rows] == ["Qieemo", "probe", "Other"]
    assert rows[0]["weighted_accuracy"] is None
    assert rows[2]["weighted_accuracy_difference"] is None
    table = league.describe({"rows": rows, "title": "A title"})
    cells = [x.strip() for x in table.splitlines()[-3].split("|")]
    assert "Fractions" in table.splitlines()[-1]
    assert cells[1:] == [
        *("emodb", "Other, published", "317.0", "–", "–", "–"),
        *("0.900", "+0.600", "–", ""),
    ]


def test_a_corpus_has_its_folder_and_options(tmp_path):
    (tmp_path / "turev").mkdir()
    options = {"turevdb": {"probe_c": 0.1}}
    (row,) = league.make_rows(["turevdb"], tmp_path, options)
    assert (row.name, row.folder, row.script) == ("turevdb", "turevdb", None)
    assert row.arguments == [
        "--corpus=turevdb",
        f"--data_folder={tmp_path / 'turev'}",
        "--probe_c=0.1",
    ]


@pytest.mark.parametrize(
    "corpora, message",
    [
        (["emodb", "emodb"], "one is twice"),
        (["turevdb"], "no folder turev or turevdb or TurEV-DB: leave"),
    ],
)
def test_corpora_that_cannot_be(tmp_path, corpora, message):
    with pytest.raises(EvaluationError, match=message):
        league.make_rows(corpora, tmp_path, {})


def test_the_recipes_league_can_be_read(tmp_path):
    recipes = Path(__file__).parents[2] / "recipes"
    path = recipes / "MultiCorpus/qieemo/league.yaml"
    table = league.read_league(path)
    assert table["options"]["emodb"]["probe_c"] == 0.000543
    assert table["published"]["Whisper large-v3"]["ravdess"] == [0.7532, 0.7587]
    (tmp_path / "a.yaml").write_text("rows: {}")
    with pytest.raises(EvaluationError, match="logistic_c.*options.*published"):
        league.read_league(tmp_path / "a.yaml")


def test_corpora_are_run_and_compared(place, monkeypatch):
    for name in ("columns", "confusion"):
        monkeypatch.setattr(crossval.plots, name, lambda *_: None)
    (place / "data" / "ravdess").mkdir()
    rows = league.make_rows(["ravdess"], place / "data", {})
    rows[0].arguments[0] = "--corpus=RAVDESS"  # the stand-in's name of it
    files = Path("train.py"), "recipe.yaml", [], Path("out")
    every = crossval.Configuration(*files, folds=[1, 2], seeds=[1, 3])
    planned = plan_rows(rows, every)
    given = planned, {"ravdess": PROBED}, PUBLISHED, Path("out")
    result = league.play(*given, about={"title": "A title"})
    # Recalls fold / 4 and seed / 4: their mean over both is 7 / 16.
    assert result["rows"][0]["weighted_accuracy"] == pytest.approx(7 / 16)
    assert result["rows"][0]["finished"] == 4
    assert len(result["rows"]) == 3
    assert "| ravdess  | Large, published" in Path("out/league.md").read_text()

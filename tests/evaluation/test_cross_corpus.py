"""Corpora left out and trained on alone: probes, plans, tables."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from standin import TRAIN, YAML

from qieemo_sb.corpora.manifest import Utterance
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import cross_corpus as crossing
from qieemo_sb.evaluation.cross_corpus import Experiment, Moments
from qieemo_sb.evaluation.cross_validation import Configuration

EMOTIONS = ["sad", "happy", "angry"]
# At the end of the stand-in: each tested corpus scores a tenth of its letters.
BY_CORPUS = """
metrics["by_corpus"] = {
    x: {**metrics, "unweighted_accuracy": len(x) / 10}
    for x in json.loads(options["test_corpora"])
}
(folder / "metrics.json").write_text(json.dumps(metrics))
"""


# -- Probe


def test_emotions_count_alike_in_a_corpus():
    x = torch.tensor([[-1.0], [-1.0], [-1.0], [1.0]])
    found = Moments.of(x, torch.tensor([0, 0, 0, 1]), 3)
    assert found.mean.tolist() == [0]
    assert found.second.tolist() == [[1]]
    assert found.cross.tolist() == [[-0.5], [0.5], [0]]
    assert found.shares.tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_a_ridge_by_hand_at_any_scale(scale):
    x = scale * torch.tensor([[-1.0], [1.0]])
    corpus = Moments.of(x, torch.tensor([0, 1]), 2)
    weight, bias = crossing.fit_ridge([corpus, corpus])
    # Covariance with the targets 0.5, variance 1, penalty 1: 0.5 / (1 + 1).
    assert (scale * weight).flatten().tolist() == pytest.approx([-0.25, 0.25])
    assert bias.tolist() == pytest.approx([0.5, 0.5])


def test_corpora_count_alike_and_what_never_changes_does_nothing():
    small = Moments.of(torch.tensor([[0.0, 7.0]]), torch.tensor([0]), 2)
    large = Moments.of(torch.tensor([[2.0, 7.0]] * 9), torch.tensor([1] * 9), 2)
    weight, bias = crossing.fit_ridge([small, large])
    # Mean 1 and variance 1 of the first feature, though 9 of 10 clips are 2.
    expected = torch.tensor([[-0.25, 0.0], [0.25, 0.0]])
    torch.testing.assert_close(weight, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(bias, torch.tensor([0.75, 0.25]))


def corpus(name, values, speaker="ann"):
    """Clips of a corpus → [(clip, feature)], ten of each label."""
    return [
        (
            Utterance(
                f"{name}/{speaker}{e}{i}",
                "",
                1.0,
                e,
                spk_id=f"{name}/{speaker}",
                corpus=name,
            ),
            value,
        )
        for e, value in values.items()
        for i in range(10)
    ]


def ua(pairs, trained, tested, adapt_to=None, model="probe"):
    clips = [clip for clip, _ in pairs]
    features = {clip.utt_id: np.array([x], "float32") for clip, x in pairs}
    wanted = [Experiment("x", (trained,), (tested,), adapt_to)]
    cells = crossing.probe(features, clips, EMOTIONS, wanted)
    (cell,) = [cell for cell in cells if cell["model"] == model]
    return cell["unweighted_accuracy"], cell["num_utterances"]


def test_recording_conditions_are_removed_by_adaptation():
    pairs = corpus("a", {"sad": -1, "happy": 1})
    pairs += corpus("b", {"sad": 9, "happy": 11})
    assert ua(pairs, "a", "b") == (0.5, 20)
    assert ua(pairs, "a", "b", "corpus") == (1, 20)


def test_self_training_finds_the_gap_between_clusters():
    pairs = corpus("a", {"sad": -1, "happy": 1})
    pairs += corpus("b", {"sad": 9, "happy": 11})
    assert ua(pairs, "a", "b", "corpus", crossing.MODELS[1]) == (1, 20)


def test_voices_are_removed_by_adaptation_to_the_speaker():
    pairs = corpus("a", {"sad": -1, "happy": 1})
    pairs += corpus("b", {"sad": 9, "happy": 11})
    pairs += corpus("b", {"sad": 29, "happy": 31}, "bob")
    assert ua(pairs, "a", "b", "corpus") == (0.5, 40)
    assert ua(pairs, "a", "b", "speaker") == (1, 40)


def test_labels_are_those_that_both_corpora_have():
    pairs = corpus("a", {"sad": -1, "happy": 1})
    pairs += corpus("b", {"sad": 2, "angry": 3})
    # Only sad is in both, so neither happy nor angry can be right or wrong.
    assert ua(pairs, "a", "b") == (1, 10)


# -- Plans and tables


@pytest.fixture
def make_plan(place):
    (place / "recipe.yaml").write_text(YAML + "corpora: []\ntest_corpora: []\n")

    def make(corpora=("RAVDESS", "nEMO"), matrix=False, emotions=("sad",)):
        given = ["--data_folder=data"]
        files = Path("train.py"), "recipe.yaml", given, Path("out")
        own = Configuration(*files, seeds=(1, 3), about={"title": "A title"})
        wanted = crossing.experiments(corpora, matrix)
        return crossing.plan(own, wanted, emotions)

    return make


def test_a_run_for_each_protocol_corpus_left_out_and_seed(make_plan):
    planned = make_plan(("RAVDESS", "nEMO", "ASED"))
    assert len(planned) == 3 * 3 * 2
    experiment, run = planned[-1]
    assert experiment.trained == ("RAVDESS", "nEMO")
    assert run.folder == Path("out/speaker/without_ASED/fold_1/3").absolute()
    assert '--corpora=["RAVDESS", "nEMO"]' in run.command
    assert '--test_corpora=["ASED"]' in run.command
    assert '--adapt_to="speaker"' in run.command
    assert "--adapt_to=null" in planned[0][1].command


def test_the_matrix_trains_on_each_alone_and_tests_all_others_at_once(
    make_plan,
):
    corpora = ("RAVDESS", "nEMO", "ASED")
    planned = make_plan(corpora, matrix=True)
    assert len(planned) == 2 * 3 * 3 * 2
    experiment, run = planned[18]
    assert (experiment.name, experiment.tested) == ("RAVDESS", corpora[1:])
    assert run.folder == Path("out/plain/only_RAVDESS/fold_1/1").absolute()


def test_a_run_has_the_emotions_that_it_trains_on(make_plan):
    planned = make_plan(emotions=("sad", "calm", "disgust"))
    commands = {x.trained[0]: run.command for x, run in planned}
    assert '--emotions=["sad"]' in commands["nEMO"]
    assert '--emotions=["sad", "calm", "disgust"]' in commands["RAVDESS"]


@pytest.mark.parametrize("corpora", [["nEMO"], ["nEMO", "nEMO"], []])
def test_tables_that_cannot_be(corpora):
    with pytest.raises(EvaluationError, match="two different ones are needed"):
        crossing.experiments(corpora, matrix=False)


def cell(trained, tested, model, accuracy, seed=None, seconds=2.0):
    scores = {tested: {"unweighted_accuracy": accuracy, "num_utterances": 4}}
    experiment = Experiment(trained, (), (tested,), None)
    return crossing._cells(experiment, model, seed, scores, seconds)[0]


def test_rows_are_means_over_seeds_then_over_corpora():
    cells = [
        cell("all others", "a", "Qieemo", 0.5, seed=1, seconds=10.0),
        cell("all others", "a", "Qieemo", 0.7, seed=2, seconds=20.0),
        cell("all others", "b", "Qieemo", 0.8, seed=1),
        cell("all others", "a", "probe", 0.4),
        cell("a", "b", "probe", 0.3),
    ]
    probe, qieemo, alone = crossing.make_rows(cells)
    assert (probe["model"], probe["scores"]["mean"]) == ("probe", None)
    assert qieemo["scores"] == pytest.approx({"a": 0.6, "b": 0.8, "mean": 0.7})
    assert qieemo["seconds"] == {"a": 15.0, "b": 2.0}
    # What it was trained on is no part of the mean.
    assert alone["scores"] == {"a": None, "b": 0.3, "mean": 0.3}


def test_runs_are_executed_once_and_stand_beside_the_probe(make_plan, capsys):
    probed = [cell("all others", "nEMO", "probe", 0.4)]
    for again in (False, True):
        result = crossing.cross_corpora(make_plan(), probed, Path("out"))
        printed = capsys.readouterr().out
        assert ("was finished" in printed) == again
    assert len([*Path("out").rglob("calls.txt")]) == 12
    assert (result["planned"], result["finished"]) == (12, 12)
    assert "[12/12] speaker/without_nEMO/fold_1/3: WA 0.500" in printed
    # Recalls 1 / 4 and seed / 4 of the seeds 1 and 3: means 1 / 4 and 1 / 2.
    names = [row["model"] for row in result["rows"]]
    assert names == ["probe", "Qieemo", "Qieemo", "Qieemo"]
    scores = {"nEMO": 0.375, "RAVDESS": 0.375, "mean": 0.375}
    assert result["rows"][1]["scores"] == pytest.approx(scores)
    assert json.loads(Path("out/cross_corpus.json").read_text()) == result
    table = Path("out/cross_corpus.md").read_text()
    assert "Incomplete" not in table
    assert "| all others   | plain                  | probe   | 0.400" in table
    picture = Path("out/cross_corpus.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_a_model_that_is_tested_on_several_corpora(make_plan, place):
    (place / "train.py").write_text(TRAIN + BY_CORPUS)
    planned = make_plan(("RAVDESS", "nEMO", "ASED"), matrix=True)
    chosen = [x for x in planned if x[0].name == "RAVDESS"][:1]
    result = crossing.cross_corpora(chosen, [], Path("out"))
    assert [x["unweighted_accuracy"] for x in result["cells"]] == [0.4, 0.4]


def test_failures_and_what_was_not_run_stand_in_the_table(make_plan, place):
    planned = make_plan()
    (place / "train.py").write_text("print('hi'); raise SystemExit('wrong')")
    result = crossing.cross_corpora(planned[:2], [], Path("out"))
    assert [x["run"] for x in result["failed"]] == [
        "plain/without_RAVDESS/fold_1/1",
        "plain/without_RAVDESS/fold_1/3",
    ]
    table = Path("out/cross_corpus.md").read_text()
    assert "Incomplete: 0 of 2 runs." in table and "wrong" in table

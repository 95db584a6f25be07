"""Probes on features whose answers are known."""

import json
import re
import sys

import numpy as np
import pytest

from qieemo_sb.corpora.manifest import Utterance
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import probes as probing

EMOTIONS = ["calm", "upset"]
POOLED = {"labels": EMOTIONS, "confusion_matrix": [[1, 0], [0, 1]]}


def utterances(speaker):
    """Ten calm and ten upset ones of a speaker."""
    return [
        Utterance(f"{speaker}{i}", "", 1.0, EMOTIONS[i % 2], spk_id=speaker)
        for i in range(20)
    ]


@pytest.fixture
def folds():
    """Two folds over three speakers; ann is never tested."""
    ann, bob, cid = (utterances(s) for s in ("ann", "bob", "cid"))
    return {1: (ann + cid, bob), 2: (ann + bob, cid)}


@pytest.fixture
def statistics(folds):
    """Blocks of two features: noise, the emotion, and one beside a shift."""
    rng = np.random.default_rng(0)
    found = {}
    for utterance in [*folds[1][0], *folds[1][1]]:
        upset = EMOTIONS.index(utterance.emo) + 0.1 * rng.standard_normal()
        shift = 5 * "abc".index(utterance.spk_id[0])
        noise = rng.standard_normal(2)
        found[utterance.utt_id] = np.array(
            [noise, [upset, 0.0], [upset + shift, 0.0]], dtype=np.float32
        )
    return found


def wa(result):
    return result["weighted_accuracy"]["by_fold"]


def test_a_probe_finds_the_block_that_tells(statistics, folds):
    results = probing.probe_blocks(statistics, folds, EMOTIONS, c=1.0)
    assert list(results) == ["0", "1", "2", "all blocks"]
    assert wa(results["1"]) == {1: 1.0, 2: 1.0}
    assert wa(results["all blocks"]) == {1: 1.0, 2: 1.0}
    assert results["0"]["weighted_accuracy"]["mean"] < 0.8


def test_speakers_that_differ_are_told_apart_once_normalised(statistics, folds):
    shifted = {utt_id: x[2] for utt_id, x in statistics.items()}
    before = probing.probe_folds(shifted, folds, EMOTIONS)
    speakers = {utt_id: utt_id[:3] for utt_id in shifted}
    normal = probing.normalise_speakers(shifted, speakers)
    after = probing.probe_folds(normal, folds, EMOTIONS)
    assert before["weighted_accuracy"]["mean"] < 0.8
    assert after["weighted_accuracy"]["mean"] == 1.0


def test_normalised_is_mean_zero_and_deviation_one_by_speaker():
    features = {"a": [1.0, 7.0], "b": [3.0, 7.0], "c": [9.0, 9.0]}
    features = {utt_id: np.array(x) for utt_id, x in features.items()}
    found = probing.normalise_speakers(features, {"a": "x", "b": "x", "c": "y"})
    found = {utt_id: x.tolist() for utt_id, x in found.items()}
    assert found == {"a": [-1.0, 0.0], "b": [1.0, 0.0], "c": [0.0, 0.0]}


def test_an_utterance_without_a_speaker_cannot_be_normalised():
    with pytest.raises(EvaluationError, match="a has no speaker"):
        probing.normalise_speakers({"a": np.zeros(2)}, {"a": ""})


def test_scale_and_offset_of_a_feature_do_not_matter(statistics, folds):
    x = {utt_id: s.ravel() for utt_id, s in statistics.items()}
    scaled = {utt_id: 1000 * s - 7 for utt_id, s in x.items()}
    first = probing.probe_folds(x, folds, EMOTIONS)
    assert wa(first) == wa(probing.probe_folds(scaled, folds, EMOTIONS))


def test_a_set_of_blocks_has_its_share_of_c(statistics, folds, monkeypatch):
    seen = []

    def score(c, features, fold, emotions):
        seen.append((len(features["ann0"]), c))
        return {**dict.fromkeys(probing.METRICS, 0.5), **POOLED}

    monkeypatch.setattr(probing, "linear_probe", lambda c: c)
    monkeypatch.setattr(probing, "score_fold", score)
    probing.probe_blocks(
        statistics, {1: folds[1]}, EMOTIONS, c=0.3, middle=[1, 2]
    )
    assert seen == [(2, 0.3)] * 3 + [(4, 0.15), (6, pytest.approx(0.1))]


def test_deviation_is_over_folds(statistics, folds):
    found = probing.probe_folds(
        {utt_id: x[0] for utt_id, x in statistics.items()}, folds, EMOTIONS
    )["weighted_accuracy"]
    one, other = found["by_fold"].values()
    assert found["std_over_folds"] == pytest.approx(abs(one - other) / 2**0.5)
    assert found["std_over_seeds"] is None


def test_labels_that_are_not_listed_are_named():
    part = [*utterances("ann"), Utterance("x", "", 1.0, "glad")]
    with pytest.raises(EvaluationError, match="glad"):
        features = {u.utt_id: np.zeros(1) for u in part}
        probing.probe_folds(features, {1: (part, part)}, EMOTIONS)


def test_tables_and_pictures(statistics, folds, tmp_path):
    results = probing.probe_blocks(
        statistics, folds, EMOTIONS, c=1.0, middle=[1, 2]
    )
    result = {
        "title": "A title",
        "command": "python probe_blocks.py",
        "C": 1.0,
        "tables": {probing.UNADAPTED: results, probing.ADAPTED: results},
    }
    probing.write_probe(result, tmp_path)
    text = re.sub(" +", " ", (tmp_path / "probe.md").read_text())
    row = (
        "| 1 | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000 | 1.000 |"
    )
    assert text.count(row) == 2
    assert "| blocks 1, 2 | 1.000" in text
    stored = json.loads((tmp_path / "probe.json").read_text())
    first = stored["tables"][probing.UNADAPTED]["1"]["macro_f1"]
    assert first["by_fold"] == {"1": 1.0, "2": 1.0}
    for name in ("probe.png", "probe_adapted.png"):
        assert (tmp_path / name).read_bytes()[1:4] == b"PNG"


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(EvaluationError, match=r"'qieemo-sb\[probe\]'"):
        probing.linear_probe()

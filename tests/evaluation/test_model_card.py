"""A model card says what was measured."""

import pytest

from qieemo_sb.evaluation.model_card import model_card

FACTS = {
    "corpus": "IEMOCAP",
    "fold": 3,
    "seed": 7,
    "labels": ["neu", "hap", "dis"],
    "confusion_matrix": [[3, 1, 0], [0, 2, 0], [0, 0, 0]],
    "num_utterances": 6,
    "weighted_accuracy": 5 / 6,
    "unweighted_accuracy": 0.875,
    "weighted_f1": 0.84,
    "macro_f1": 0.829,
}


def test_numbers_stand_in_the_table():
    assert "| 0.8333 | 0.8750 | 0.8400 | 0.8290 |" in model_card(FACTS)


def test_what_was_measured_on_what():
    assert "On 6 held-out utterances of IEMOCAP, fold 3, seed 7." in model_card(
        FACTS
    )


def test_recall_is_worked_out_by_label():
    # Three of four; two of two; no utterance, no recall.
    assert "Recall by emotion: neu 0.75 of 4, hap 1.00 of 2." in model_card(
        FACTS
    )


def test_every_emotion_is_named():
    card = model_card(FACTS)
    assert "neu, hap, dis" in card
    assert "one of 3 emotions" in card


def test_a_fact_that_is_missing_is_no_blank():
    facts = {k: v for k, v in FACTS.items() if k != "seed"}
    with pytest.raises(KeyError, match="seed"):
        model_card(facts)


def test_calibration_and_doubt_are_told():
    assert "alibration" not in model_card(FACTS)
    fit = {"temperature": 1.5}
    fit |= {"ece_before": 0.2, "ece_after": 0.0312}
    row = {"threshold": 0.5, "coverage": 0.75, "accuracy": 0.9}
    measured = {"calibration": fit, "ece": 0.06, "risk_coverage": [row]}
    card = model_card({**FACTS, **measured})
    assert "A temperature (1.50) was" in card
    assert "was 0.200 and is now 0.031." in card
    assert "by 0.060 (expected\ncalibration error, 15 bins)" in card
    assert "\n| 0.50 | 0.75 | 0.900 |\n" in card


def test_adaptation_is_told():
    curve = {"clips": [0, 60], "weighted_accuracy": [0.5, 0.75]}
    assert "adapted" not in model_card(FACTS)
    card = model_card({**FACTS, "adaptation": curve})
    assert "Each speaker was adapted to" in card
    assert "A new speaker,\nwithout adaptation: WA 0.5000." in card

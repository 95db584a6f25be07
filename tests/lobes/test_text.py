"""Transcripts in the letters that are read."""

import pytest

from qieemo_sb.lobes.tokens import normalise


@pytest.mark.parametrize(
    "text, normalised",
    [
        ("Kids are talking.", "kids are talking"),
        ("it's  9\to'clock!", "it's o'clock"),
        ("Ärger über Café", "arger uber cafe"),
        ("ﬁne", "fine"),  # one letter that is two
        ("İ", "i"),  # lower case is two code points
        ("[LAUGHTER] no--way", "no way"),
        ("well <breath> yes", "well yes"),
        ("it’s ours", "it's ours"),
        ("# 5", ""),
        ("", ""),
        (" 42 ", ""),
    ],
)
def test_normalised(text, normalised):
    assert normalise(text) == normalised


def test_normalising_twice_changes_nothing():
    once = normalise("Schön -- 'tis 1 DAY!")
    assert normalise(once) == once


def test_an_event_can_be_kept_as_a_word_of_its_own():
    assert normalise("Well[LAUGHTER]yes <cough>.", True) == "well # yes #"


def test_normalising_twice_changes_nothing_with_events_either():
    # What is normalised has no brackets, and # is only ever an event.
    assert normalise("a [x] b") == "a b"

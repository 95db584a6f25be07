"""Protocols that divide a corpus into train, valid and test.

Pure functions from a list of utterances to train, valid and test. None
depends on the order of the list or on a global random state.
"""

import random
from collections.abc import Callable, Iterable
from itertools import groupby, zip_longest

from qieemo_sb.corpora.manifest import (
    SPLITS,
    Splits,
    Utterance,
    check_choice,
)
from qieemo_sb.errors import CorpusError

RANDOM_PARTS = 10  # test one tenth, validate on one tenth, train on the rest


def leave_one_session_out(utterances: list[Utterance], fold: int) -> Splits:
    """Test session number `fold`, validate on the next, train on the rest.

    The next session, cyclically, validates: its speakers are neither trained
    on nor tested, so the checkpoint is chosen on new speakers, as the test
    has them. Each session tests once and validates once.

    Arguments
    ---------
    utterances : list of Utterance
        At least three sessions.
    fold : int
        From 1 to the number of sessions.

    Returns
    -------
    dict
        Utterances of train, valid and test.

    Example
    -------
    >>> utts = [
    ...     Utterance(f"u{n}", f"{n}.wav", 1.0, "sad", session=n)
    ...     for n in range(1, 6)
    ... ]
    >>> splits = leave_one_session_out(utts, fold=5)
    >>> {name: [u.session for u in part] for name, part in splits.items()}
    {'train': [2, 3, 4], 'valid': [1], 'test': [5]}
    """
    sessions = sorted({u.session for u in utterances})
    if len(sessions) < 3:
        raise CorpusError(
            f"Leaving a session out takes three sessions: one to train on, "
            f"one to validate, one to test. There are {len(sessions)}."
        )
    check_choice("fold", fold, range(1, len(sessions) + 1))
    test, valid = sessions[fold - 1], sessions[fold % len(sessions)]
    return _divide(
        utterances, lambda u: u.session == test, lambda u: u.session == valid
    )


def leave_one_speaker_out(utterances: list[Utterance], fold: int) -> Splits:
    """Test one speaker, validate on the others of the session.

    The speakers of a session hear and overlap one another, so none of them
    is trained on when one is tested.

    Arguments
    ---------
    utterances : list of Utterance
        At least two sessions of at least two speakers.
    fold : int
        From 1 to the number of speakers, counted in sorted order.

    Returns
    -------
    dict
        Utterances of train, valid and test.
    """
    speakers = sorted({u.spk_id for u in utterances})
    check_choice("fold", fold, range(1, len(speakers) + 1))
    test = speakers[fold - 1]
    sessions = {u.session for u in utterances if u.spk_id == test}
    splits = _divide(
        utterances, lambda u: u.spk_id == test, lambda u: u.session in sessions
    )
    if not splits["valid"]:
        raise CorpusError(
            f"Speaker {test} is alone in a session: nobody is left there to "
            "validate on. Leave a session out instead."
        )
    return splits


def random_split(
    utterances: list[Utterance], fold: int = 1, seed: int = 1986
) -> Splits:
    """Split 80/10/10 at random, label by label.

    Speakers are in all three parts, so the figures say little about new
    speakers and do not compare with those of a speaker-independent protocol.
    It exists to repeat published experiments.

    Arguments
    ---------
    utterances : list of Utterance
        In any order.
    fold : int
        From 1 to 10: the tenth to test. The next one, cyclically, validates.
    seed : int
        Of the shuffle; the ten tenths of one seed are disjoint.

    Returns
    -------
    dict
        Utterances of train, valid and test.
    """
    check_choice("fold", fold, range(1, RANDOM_PARTS + 1))
    test, valid = fold - 1, fold % RANDOM_PARTS
    rng = random.Random(seed)
    dealt = []
    for group in _by_label(utterances):
        rng.shuffle(group)
        dealt += group
    part = {u.utt_id: i % RANDOM_PARTS for i, u in enumerate(dealt)}
    return _divide(
        utterances,
        lambda u: part[u.utt_id] == test,
        lambda u: part[u.utt_id] == valid,
    )


def by_speakers(
    utterances: list[Utterance],
    test_speakers: Iterable[str],
    valid_fraction: float = 0.2,
    seed: int = 1986,
) -> Splits:
    """Test given speakers, validate on a fraction of the others' utterances.

    The fraction is taken at random from each label, in turn from each
    speaker. Validation has the speakers of the training part, as in the
    EmoBox benchmark, so its figures are better than those of the test.

    Arguments
    ---------
    utterances : list of Utterance
        In any order.
    test_speakers : iterable of str
        Their spk_id.
    valid_fraction : float
        Of the utterances of each label that are not tested.
    seed : int
        Of the choice.

    Returns
    -------
    dict
        Utterances of train, valid and test.
    """
    tested = set(test_speakers)
    if absent := sorted(tested - {u.spk_id for u in utterances}):
        raise CorpusError(f"Not in the corpus: {', '.join(absent)}.")
    return hold_out(
        utterances, lambda u: u.spk_id in tested, valid_fraction, seed
    )


def hold_out(
    utterances: list[Utterance],
    in_test: Callable[[Utterance], bool],
    valid_fraction: float = 0.2,
    seed: int = 1986,
) -> Splits:
    """Test some utterances, validate on a fraction of the others.

    Arguments
    ---------
    utterances : list of Utterance
        In any order.
    in_test : callable
        True for an utterance to test.
    valid_fraction, seed
        See `by_speakers`.

    Returns
    -------
    dict
        Utterances of train, valid and test.
    """
    check_fraction(valid_fraction)
    rng = random.Random(seed)
    others = [u for u in utterances if not in_test(u)]
    chosen: set[str] = set()
    for group in _by_label(others):
        count = round(valid_fraction * len(group))
        chosen.update(u.utt_id for u in _deal(group, rng)[:count])
    return _divide(utterances, in_test, lambda u: u.utt_id in chosen)


def check_fraction(valid_fraction: float) -> None:
    """Raise a CorpusError for a fraction that leaves a part empty."""
    if not 0 < valid_fraction < 1:
        raise CorpusError(
            f"valid_fraction is {valid_fraction}; it must lie between 0 and 1."
        )


def speaker_folds(
    utterances: list[Utterance], num_folds: int, seed: int = 1986
) -> list[list[str]]:
    """Deal the speakers to folds at random, women and men alike.

    Arguments
    ---------
    utterances : list of Utterance
        All of a corpus.
    num_folds : int
        At most as many as there are speakers.
    seed : int
        Of the choice.

    Returns
    -------
    list of list of str
        The speakers of each fold.
    """
    genders = {u.spk_id: u.gender for u in utterances}
    speakers = sorted(genders)
    random.Random(seed).shuffle(speakers)
    speakers.sort(key=genders.__getitem__)
    return [sorted(speakers[i::num_folds]) for i in range(num_folds)]


def seeded_speaker_split(
    utterances: list[Utterance],
    seed: int = 1986,
    fraction: float = 0.15,
    tested: bool = True,
) -> Splits:
    """Divide the speakers at random: none of them is in two parts.

    Arguments
    ---------
    utterances : list of Utterance
        At least three speakers, or two if none are to be tested.
    seed : int
        Of the shuffle.
    fraction : float
        Of the speakers, to test, and as many to validate; at least a woman
        and a man where there are enough and genders are known.
    tested : bool
        False: the test part stays empty.

    Returns
    -------
    dict
        Utterances of train, valid and test.
    """
    check_fraction(fraction)
    genders = {u.spk_id: u.gender for u in utterances}
    speakers = sorted(genders)
    held_out = 2 if tested else 1
    if len(speakers) <= held_out:
        needed = "three speakers: one to train on, one to validate, one to test"
        if not tested:
            needed = "two speakers: one to train on, one to validate"
        raise CorpusError(
            f"A split by speakers takes {needed}. There are {len(speakers)}: "
            f"{', '.join(speakers)}."
        )
    random.Random(seed).shuffle(speakers)
    groups = [
        [speaker for speaker in speakers if genders[speaker] == gender]
        for gender in sorted(set(genders.values()))
    ]
    order = _take_turns(groups)
    share = max(len(groups), round(fraction * len(speakers)))
    share = min(share, (len(speakers) - 1) // held_out)
    test = order[:share] if tested else []
    valid = order[len(test) : len(test) + share]
    return _divide(
        utterances, lambda u: u.spk_id in test, lambda u: u.spk_id in valid
    )


def _divide(utterances, in_test, in_valid) -> Splits:
    splits: Splits = {name: [] for name in SPLITS}
    for utterance in sorted(utterances, key=lambda u: u.utt_id):
        valid = "valid" if in_valid(utterance) else "train"
        splits["test" if in_test(utterance) else valid].append(utterance)
    return splits


def _by_label(utterances: list[Utterance]) -> list[list[Utterance]]:
    ordered = sorted(utterances, key=lambda u: (u.emo, u.utt_id))
    return [list(group) for _, group in groupby(ordered, lambda u: u.emo)]


def _deal(group: list[Utterance], rng: random.Random) -> list[Utterance]:
    """Shuffle so that speakers take turns."""
    turns: dict[str, list] = {}  # speaker → utterances, both in random order
    for utterance in rng.sample(group, len(group)):
        turns.setdefault(utterance.spk_id, []).append(utterance)
    return _take_turns(turns.values())


def _take_turns(groups: Iterable[list]) -> list:
    """First items of all groups, then their second ones, and so on."""
    rounds = zip_longest(*groups)
    return [item for turn in rounds for item in turn if item is not None]

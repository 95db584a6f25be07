"""What an utterance teaches, worked out by hand."""

import pytest
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.nnet.losses import nll_loss

from qieemo_sb.errors import CorpusError
from qieemo_sb.training.targets import EmotionTargets

EMOTIONS = ["neutral", "sad", "bored"]
# Ann has two of the emotions, Bob has all of them.
ROWS = {
    "a1": {"emo": "neutral", "corpus": "Ann", "spk_id": "Ann/f1"},
    "a2": {"emo": "neutral", "corpus": "Ann", "spk_id": "Ann/f1"},
    "a3": {"emo": "neutral", "corpus": "Ann", "spk_id": "Ann/f2"},
    "a4": {"emo": "sad", "corpus": "Ann", "spk_id": "Ann/f2"},
    "b1": {"emo": "neutral", "corpus": "Bob", "spk_id": "Bob/m1"},
    "b2": {"emo": "sad", "corpus": "Bob", "spk_id": "Bob/m1"},
    "b3": {"emo": "bored", "corpus": "Bob"},
    "b4": {"emo": "bored", "corpus": "Bob"},
}


def of(rows, emotions=EMOTIONS, **options):
    """Targets of rows that are all trained on."""
    return EmotionTargets(
        {"train": DynamicItemDataset(rows)}, emotions, **options
    )


def with_votes(utt_id, **votes):
    return {**ROWS, utt_id: {**ROWS[utt_id], "votes": votes}}


def log(*probabilities):
    return torch.tensor(probabilities).log()


def test_labels_that_a_corpus_lacks_are_not_known_there():
    targets = of(ROWS)
    known = targets.known[targets.places(["a1", "a4", "b1"])]
    assert known.tolist() == [[True, True, False]] * 2 + [[True] * 3]


def test_a_corpus_of_one_label_shows_what_the_others_are_not():
    rows = {**ROWS, "c1": {"emo": "neutral", "corpus": "read"}}
    targets = of(rows)
    assert targets.known[targets.places(["c1"])].all()


def test_a_corpus_has_the_weight_that_it_is_given():
    rows = {**ROWS, "c1": {"emo": "neutral", "corpus": "read"}}
    weights = of(rows, corpus_weights={"read": 0.5}).weights
    assert weights.sum().item() == pytest.approx(9)
    # Ann's, Bob's and the read clips are 1 : 1 : 0.5 of nine.
    assert weights[-1].item() == pytest.approx(9 / 5)
    assert weights[:4].sum().item() == pytest.approx(9 * 2 / 5)


def test_corpora_have_their_weights_in_the_smoothing_too():
    rows = {**ROWS, "c1": {"emo": "neutral", "corpus": "read"}}
    targets = of(rows, corpus_weights={"read": 0.5}, smoothing=1.0)
    flat = log([1 / 3] * 3)
    one = targets.loss(flat, ["c1"]).item()
    four = targets.loss(flat.expand(4, 3), ["b1", "b2", "b3", "b4"]).item()
    assert one / (4 * four) == pytest.approx(0.5)


def test_read_speech_is_not_emotional_and_corpora_count_alike():
    rows = {**ROWS, "c1": {"emo": "neutral", "corpus": "read"}}
    targets = of(rows, corpus_weights={"read": 0.5})
    places, weights = targets.emotional(["a1", "c1", "b1", "b2"])
    assert places == [0, 2, 3]
    assert weights.tolist() == [1.0, 0.5, 0.5]


def test_a_label_is_known_that_only_the_test_has():
    parts = {name: {name: ROWS[name]} for name in ("b1", "b2", "b3")}
    datasets = {
        split: DynamicItemDataset(rows)
        for split, rows in zip(
            ("train", "valid", "test"), parts.values(), strict=True
        )
    }
    assert EmotionTargets(datasets, EMOTIONS).known.all()


def test_probabilities_of_known_labels_keep_their_ratio():
    given = log([0.1, 0.3, 0.6], [0.1, 0.3, 0.6])
    found = of(ROWS).among_known(given, ["a1", "b1"]).exp()
    expected = torch.tensor([[0.25, 0.75, 0.0], [0.1, 0.3, 0.6]])
    assert torch.allclose(found, expected)


def test_corpora_count_alike_and_emotions_alike_in_each():
    """Six of eight are Ann's; each corpus weighs four in all."""
    rows = {k: ROWS[k] for k in ("a1", "a2", "a3", "a4", "b1", "b2")}
    rows["a5"] = rows["a6"] = ROWS["a3"]
    targets = of(rows)
    weights = dict(zip(rows, targets.weights.tolist(), strict=True))
    # Five neutral ones of Ann share 2, her sad one has 2; Bob's have 2 each.
    expected = dict.fromkeys(("a1", "a2", "a3", "a5", "a6"), 0.4)
    expected |= {"a4": 2.0, "b1": 2.0, "b2": 2.0}
    assert weights == pytest.approx(expected)


def test_of_one_corpus_emotions_count_alike():
    rows = {k: ROWS[k] for k in ("a1", "a2", "a3", "a4")}
    assert of(rows).weights.tolist() == pytest.approx([4 / 6] * 3 + [4 / 2])
    assert of(rows, balance=False).weights.tolist() == [1] * 4


def test_only_training_is_balanced():
    datasets = {
        "train": DynamicItemDataset({k: ROWS[k] for k in ("a1", "a2", "a4")}),
        "valid": DynamicItemDataset({"a3": ROWS["a3"]}),
    }
    targets = EmotionTargets(datasets, EMOTIONS)
    weights = targets.weights[targets.places(["a1", "a4", "a3"])]
    assert weights.tolist() == pytest.approx([0.75, 1.5, 1.0])


def test_votes_have_their_share_of_a_target():
    """One of four voted as the label says; what nobody asked has no share."""
    rows = with_votes("b1", neutral=1, sad=3, surprised=4)
    targets = of(rows, vote_share=0.4)
    shares = targets.shares[targets.places(["b1", "b2"])]
    expected = torch.tensor([[0.6 + 0.1, 0.3, 0.0], [0.0, 1.0, 0.0]])
    assert torch.allclose(shares, expected)
    assert targets.indices(["b1", "b2"]).tolist() == [0, 1]
    assert of(rows).shares.sum(dim=0).tolist() == [4, 2, 2]


def test_the_cost_of_votes():
    rows = with_votes("b1", neutral=1, sad=3)
    targets = of(rows, vote_share=1.0, balance=False)
    log_probs = log([0.5, 0.25, 0.25])
    expected = -(0.25 * log(0.5) + 0.75 * log(0.25)).item()
    assert targets.loss(log_probs, ["b1"]).item() == pytest.approx(expected)


def test_smoothing_is_over_known_labels_only():
    targets = of(ROWS, balance=False, smoothing=0.2)
    among = targets.among_known(log([0.1, 0.3, 0.6], [0.5, 0.25, 0.25]), ["a1"])
    cost = -among[0, 0].item()
    even = -among[0, :2].mean().item()
    among = among[:1]
    expected = 0.8 * cost + 0.2 * even
    assert targets.loss(among, ["a1"]).item() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_one_corpus_the_loss_is_speechbrains(smoothing):
    rows = {
        str(i): {"emo": EMOTIONS[k]} for i, k in enumerate([0, 0, 0, 1, 2, 2])
    }
    ids, weight = list(rows), torch.tensor([6 / 9, 6 / 3, 6 / 6])
    log_probs = torch.randn(6, 3).log_softmax(dim=-1).requires_grad_()
    targets = of(rows, smoothing=smoothing)
    expected = nll_loss(
        log_probs,
        targets.indices(ids),
        weight=weight,
        label_smoothing=smoothing,
    )
    found = targets.loss(targets.among_known(log_probs, ids), ids)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    (theirs,) = torch.autograd.grad(expected, log_probs)
    theirs = theirs - log_probs.exp() * theirs.sum(dim=-1, keepdim=True)
    (ours,) = torch.autograd.grad(found, log_probs)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_an_unknown_label_gets_no_gradient():
    scores = torch.zeros(2, 3, requires_grad=True)
    targets, ids = of(ROWS, smoothing=0.1), ["a1", "a4"]
    log_probs = scores.log_softmax(dim=-1)
    targets.loss(targets.among_known(log_probs, ids), ids).backward()
    assert scores.grad[:, 2].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert (scores.grad[:, :2].abs() > 0.1).all()


def test_groups_to_adapt_to():
    targets = of(ROWS)
    assert targets.groups(None, ["a1", "b3"]) == ["", ""]
    assert targets.groups("corpus", ["b3", "a1"]) == ["Bob", "Ann"]
    assert targets.groups("speaker", ["b1", "b3"]) == ["Bob/m1", ""]
    with pytest.raises(CorpusError, match="voice; .* null, speaker or corpus"):
        targets.groups("voice", ["a1"])


def test_shares_of_votes_that_cannot_be():
    for share in (-0.1, 1.1):
        with pytest.raises(CorpusError, match=f"{share}; 0 to 1 is needed"):
            of(ROWS, vote_share=share)
    datasets = {
        "train": DynamicItemDataset(ROWS),
        "test": DynamicItemDataset({"c": with_votes("b1", sad=1)["b1"]}),
    }
    with pytest.raises(CorpusError, match="no utterance that is trained on"):
        EmotionTargets(datasets, EMOTIONS, vote_share=0.5)


def test_a_name_is_of_one_utterance():
    """Manifests may share utterances, but no name may mean two of them."""
    train, test = (
        DynamicItemDataset(ROWS),
        DynamicItemDataset({"a1": ROWS["a1"]}),
    )
    EmotionTargets({"train": train, "test": test}, EMOTIONS)
    test = DynamicItemDataset({"a1": ROWS["a4"]})
    with pytest.raises(CorpusError, match="1 names .*:\n  test: a1"):
        EmotionTargets({"train": train, "test": test}, EMOTIONS)

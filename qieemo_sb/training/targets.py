"""Emotion targets: what each utterance teaches, and how much it counts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from qieemo_sb.corpora.manifest import raise_all
from qieemo_sb.errors import CorpusError
from qieemo_sb.training.data import Datasets


class EmotionTargets:
    """Targets, known labels and weights of utterances, by their ids.

    A corpus that lacks a label says nothing about it: its utterances are
    trained and scored among the labels that the corpus has. One that has a
    single label, as read speech has, shows what the others are not.

    Arguments
    ---------
    datasets : mapping of str to DynamicItemDataset
        Split → data set; "train" is balanced.
    emotions : sequence of str
        The C classes.
    balance : bool
        Corpora count alike in training, and emotions alike in each corpus.
    corpus_weights : mapping of str to float or None
        Corpus → its weight then, beside 1 of each other.
    vote_share : float
        Share of listeners' votes in a target; the rest is the label. An
        utterance without votes has its label alone.
    smoothing : float
        Share of the mean cost of all known labels in the loss, in which
        corpora have their weights, and emotions none.

    Raises
    ------
    CorpusError
        ``vote_share`` is no fraction, no training utterance has votes, or a
        name is of two utterances; lists these.

    Example
    -------
    >>> from speechbrain.dataio.dataset import DynamicItemDataset
    >>> rows = {
    ...     "a": {"emo": "sad", "corpus": "x"},
    ...     "b": {"emo": "angry", "corpus": "x"},
    ...     "c": {"emo": "happy", "corpus": "y"},
    ... }
    >>> train = {"train": DynamicItemDataset(rows)}
    >>> targets = EmotionTargets(train, ["sad", "angry", "happy"])
    >>> log_probs = torch.tensor([[0.1, 0.4, 0.5]]).log()
    >>> targets.among_known(log_probs, ["a"]).exp()
    tensor([[0.2000, 0.8000, 0.0000]])
    """

    def __init__(
        self,
        datasets: Datasets,
        emotions: Sequence[str],
        balance: bool = True,
        corpus_weights: Mapping[str, float] | None = None,
        vote_share: float = 0.0,
        smoothing: float = 0.0,
    ):
        splits = {name: dataset.data for name, dataset in datasets.items()}
        rows = _all_rows(splits)
        if not 0 <= vote_share <= 1:
            raise CorpusError(f"vote_share is {vote_share}; 0 to 1 is needed.")
        if vote_share and not any(
            row.get("votes") for row in splits["train"].values()
        ):
            raise CorpusError(
                f"vote_share is {vote_share}, and no utterance that is trained "
                "on has votes. Set it to 0."
            )
        self.corpora = {i: row.get("corpus", "") for i, row in rows.items()}
        self.speakers = {i: row.get("spk_id", "") for i, row in rows.items()}
        self.smoothing = smoothing
        self.corpus_weights = corpus_weights or {}
        self._places = {utt_id: n for n, utt_id in enumerate(rows)}
        index = {emotion: k for k, emotion in enumerate(emotions)}
        labels = torch.tensor([index[row["emo"]] for row in rows.values()])
        self.labels = labels  # [N]
        self.shares = torch.eye(len(emotions))[labels]  # [N, C]
        for n, row in enumerate(rows.values()):
            votes = row.get("votes") or {}
            counts = torch.tensor([float(votes.get(e, 0)) for e in emotions])
            if vote_share and counts.sum() > 0:
                voted = counts / counts.sum()
                self.shares[n] += vote_share * (voted - self.shares[n])
        self.known = self._known(labels, len(emotions))  # [N, C]
        chosen = splits["train"], self.corpus_weights
        weights = _weights(*chosen) if balance else {}
        pairs = [weights.get(i, (1.0, 1.0)) for i in rows]
        self.weights, self.corpus_parts = torch.tensor(pairs).T  # [N] each

    def _known(self, labels, n_classes):
        """Labels that occur in the corpus of each utterance, [N, C]."""
        found: dict[str, Tensor] = defaultdict(
            lambda: torch.zeros(n_classes, dtype=torch.bool)
        )
        corpora = list(self.corpora.values())
        for corpus, label in zip(corpora, labels.tolist(), strict=True):
            found[corpus][label] = True
        for known in found.values():
            known |= known.sum() == 1
        return torch.stack([found[corpus] for corpus in corpora])

    def to(self, device: str | torch.device) -> "EmotionTargets":
        """Move to a device."""
        for name in ("labels", "shares", "known", "weights", "corpus_parts"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def groups(self, kind: str | None, ids: Sequence[str]) -> list[str]:
        """Names of utterances' speakers, or of their corpora.

        Arguments
        ---------
        kind : str or None
            "speaker" or "corpus"; None: one group.
        ids : sequence of str
            B utterances.

        Returns
        -------
        list of str
            B names.

        Raises
        ------
        CorpusError
            There is no such kind.
        """
        kinds = {"speaker": self.speakers, "corpus": self.corpora}
        if kind is None:
            return [""] * len(ids)
        if kind not in kinds:
            raise CorpusError(
                f"adapt_to is {kind}; it can be null, {' or '.join(kinds)}."
            )
        return [kinds[kind][utt_id] for utt_id in ids]

    def emotional(self, ids: Sequence[str]) -> tuple[list[int], Tensor]:
        """Places of utterances that are not read speech, and their weights.

        By these weights, corpora count alike.
        """
        names = self.groups("corpus", ids)
        rows = [i for i, x in enumerate(names) if x not in self.corpus_weights]
        counts = Counter(names[i] for i in rows)
        return rows, torch.tensor([1 / counts[names[i]] for i in rows])

    def indices(self, ids: Sequence[str]) -> Tensor:
        """Class indices [B] of the labels."""
        return self.labels[self.places(ids)]

    def places(self, ids: Sequence[str]) -> Tensor:
        """Rows [B] of utterances in this object's tensors."""
        rows = [self._places[utt_id] for utt_id in ids]
        return torch.tensor(rows, device=self.labels.device)

    def among_known(self, log_probs: Tensor, ids: Sequence[str]) -> Tensor:
        """Log-probabilities [B, C], given that the label is a known one."""
        known = self.known[self.places(ids)]
        return log_probs.masked_fill(~known, -torch.inf).log_softmax(dim=-1)

    def loss(self, log_probs: Tensor, ids: Sequence[str]) -> Tensor:
        """Weighted cross-entropy with the targets, smoothed.

        Arguments
        ---------
        log_probs : torch.Tensor
            [B, C] of ``among_known``.
        ids : sequence of str
            B utterances.

        Returns
        -------
        torch.Tensor
            Scalar: mean over the batch.
        """
        rows = self.places(ids)
        known = self.known[rows]
        costs = -log_probs.masked_fill(~known, 0.0)
        cost = (self.shares[rows] * costs).sum(dim=-1) * self.weights[rows]
        even = costs.sum(dim=-1) / known.sum(dim=-1) * self.corpus_parts[rows]
        share = self.smoothing
        return (1 - share) * cost.mean() + share * even.mean()


def _all_rows(splits):
    """Rows of all splits by utterance; a name may not mean two of them."""
    rows, problems = {}, []
    for split, part in splits.items():
        for utt_id, row in part.items():
            first = rows.setdefault(utt_id, row)
            if any(first.get(k) != row.get(k) for k in ("emo", "corpus")):
                problems.append(f"{split}: {utt_id}")
    raise_all(
        "{count} names are of another utterance in another manifest. Rename:",
        problems,
    )
    return rows


def _weights(rows, chosen):
    """Weight of each utterance, emotions alike in a corpus, and by corpus.

    Both have a mean of 1 over all utterances.
    """
    cells = {i: (row.get("corpus", ""), row["emo"]) for i, row in rows.items()}
    counts = Counter(cells.values())
    emotions = Counter(corpus for corpus, _ in counts)
    sizes = Counter(corpus for corpus, _ in cells.values())
    shares = {corpus: chosen.get(corpus, 1.0) for corpus in emotions}
    size = len(rows) / sum(shares.values())
    parts = {corpus: size * share for corpus, share in shares.items()}
    return {
        i: (
            parts[cell[0]] / (emotions[cell[0]] * counts[cell]),
            parts[cell[0]] / sizes[cell[0]],
        )
        for i, cell in cells.items()
    }

"""Speaker adaptation: what is usual for a speaker, from clips without labels.

A voice that is always loud and high is not always angry. What a speaker's
pooled vectors have in common is taken off before the classifier: each number
is standardised by mean and variance of that speaker's own clips instead of
the training data's. Those of few clips are uncertain, so the training data's
count as ``PRIOR_CLIPS`` further clips. In training as in use; but in use,
nobody says which emotions the clips hold, and a ``SpeakerModel`` keeps those
that they have in common from being taken for the voice.
"""

from collections.abc import Sequence

import torch

from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.speaker import SpeakerModel, speaker_moments

HEARD = "clips of the speaker that were heard before"
CLIPS = (0, 1, 2, 5, 10, 20, 60)  # of the curve
EMOTIONS = (1, 2, 3)  # so many alone that a speaker shows
HOW = ("unadapted", "all_as_voice", "adapted")  # WA of such is told


class Heard:
    """Pooled vectors of an evaluation, by speaker.

    Batches may have any size and come in any order. A second vector of the
    same utterance is dropped, as ``Scores`` does.
    """

    def __init__(self):
        self._rows = {}

    def append(
        self,
        ids: Sequence[str],
        speakers: Sequence[str],
        embedding: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Add a batch.

        Arguments
        ---------
        ids : sequence of str
            B utterance ids.
        speakers : sequence of str
            B names.
        embedding : torch.Tensor
            [B, E].
        targets : torch.Tensor
            [B] true class indices.
        """
        rows = zip(ids, speakers, embedding, targets, strict=True)
        for utt_id, *row in rows:
            self._rows.setdefault(utt_id, row)

    @property
    def ids(self) -> list[str]:
        """Utterance ids, sorted: the order of all that follows."""
        return sorted(self._rows)

    @property
    def speakers(self) -> list[str]:
        """N names."""
        return [self._rows[utt_id][0] for utt_id in self.ids]

    @property
    def vectors(self) -> torch.Tensor:
        """[N, E] pooled vectors."""
        return torch.stack([self._rows[utt_id][1] for utt_id in self.ids])

    @property
    def targets(self) -> torch.Tensor:
        """[N] true class indices."""
        return torch.stack([self._rows[utt_id][2] for utt_id in self.ids])

    def by_speaker(self) -> list[tuple[list[int], torch.Tensor]]:
        """For each speaker, places of their utterances, and vectors [n, E]."""
        places, vectors = {}, self.vectors
        for i, speaker in enumerate(self.speakers):
            places.setdefault(speaker, []).append(i)
        return [(own, vectors[own]) for own in places.values()]

    @torch.no_grad()
    def log_probs(
        self, classifier: Classifier, model: SpeakerModel | None = None
    ) -> torch.Tensor:
        """Classify each speaker's utterances, adapted to all of them.

        Arguments
        ---------
        classifier, model
            Of ``speaker_moments``.

        Returns
        -------
        torch.Tensor
            [N, C] log-probabilities.
        """
        answers = {}
        for own, vectors in self.by_speaker():
            speaker = speaker_moments(vectors, classifier, model)
            rows = classifier(vectors, speaker)
            answers.update(zip(own, rows, strict=True))
        return torch.stack([answers[i] for i in sorted(answers)])

    @torch.no_grad()
    def accuracy_after(
        self,
        classifier: Classifier,
        clips: int,
        model: SpeakerModel | None = None,
        draws: int = 2,
        seed: int = 0,
    ) -> float:
        """WA if each utterance is heard after some others of its speaker.

        Arguments
        ---------
        classifier, model
            Of ``speaker_moments``.
        clips : int
            How many others, drawn at random; all that there are, if fewer.
        draws : int
            How often they are drawn for every utterance.
        seed : int
            Of the drawing.

        Returns
        -------
        float
            Fraction of right answers.
        """
        generator = torch.Generator().manual_seed(seed)
        targets = self.targets
        right = total = 0
        for own, vectors in self.by_speaker():
            for _ in range(draws):
                for place, vector in enumerate(vectors):
                    order = torch.randperm(len(own), generator=generator)
                    others = order[order != place][:clips]
                    speaker = None
                    if len(others):
                        heard = vectors[others]
                        speaker = speaker_moments(heard, classifier, model)
                    answer = classifier(vector, speaker).argmax()
                    right += int(answer == targets[own[place]])
                    total += 1
        return right / total

    @torch.no_grad()
    def accuracy_of(
        self,
        classifier: Classifier,
        emotions: int,
        model: SpeakerModel | None = None,
        draws: int = 10,
        seed: int = 0,
    ) -> dict[str, float]:
        """WA if each speaker shows so many emotions and no others.

        Arguments
        ---------
        classifier, model
            Of ``speaker_moments``.
        emotions : int
            How many of those that the utterances have, drawn at random.
        draws : int
            How often they are drawn for every speaker.
        seed : int
            Of the drawing.

        Returns
        -------
        dict
            Fractions of right answers: ``unadapted``, ``adapted`` to these
            utterances alone, and ``all_as_voice``, without the model.
        """
        generator = torch.Generator().manual_seed(seed)
        kinds, targets = self.targets.unique(), self.targets
        right, total = dict.fromkeys(HOW, 0), 0
        draws = draws if emotions < len(kinds) else 1
        for own, vectors in self.by_speaker():
            for _ in range(draws):
                order = torch.randperm(len(kinds), generator=generator)
                said = torch.isin(targets[own], kinds[order[:emotions]])
                if not said.any():
                    continue
                x, expected = vectors[said], targets[own][said]
                speakers = (
                    None,
                    speaker_moments(x, classifier),
                    speaker_moments(x, classifier, model),
                )
                for how, speaker in zip(HOW, speakers, strict=True):
                    answers = classifier(x, speaker).argmax(dim=1)
                    right[how] += int((answers == expected).sum())
                total += len(x)
        return {how: count / total for how, count in right.items()}

    def curve(
        self, classifier: Classifier, model: SpeakerModel | None = None
    ) -> dict:
        """How accuracy grows with what was heard of a speaker before.

        Arguments
        ---------
        classifier, model
            Of ``speaker_moments``.

        Returns
        -------
        dict
            ``clips`` and ``weighted_accuracy`` after so many, lists of one
            size; see ``accuracy_after``. ``emotions`` and those of ``HOW``,
            too: see ``accuracy_of``.
        """
        accuracies = [self.accuracy_after(classifier, n, model) for n in CLIPS]
        shown = len(self.targets.unique())
        emotions = [*(n for n in EMOTIONS if n < shown), shown]
        few = [self.accuracy_of(classifier, n, model) for n in emotions]
        return {
            "clips": list(CLIPS),
            "weighted_accuracy": accuracies,
            "emotions": emotions,
            **{how: [found[how] for found in few] for how in HOW},
        }

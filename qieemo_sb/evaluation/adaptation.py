"""Speaker adaptation: accuracy by how much was heard of a speaker before.

A voice that is always loud and high is not always angry. What a speaker's
embeddings have in common is taken off before the classifier: each number is
standardised by mean and variance of that speaker's own clips instead of the
training data's; see ``lobes.speaker``. Nobody says which emotions the clips
hold, and a ``SpeakerModel`` keeps those that they have in common from being
taken for the voice.
"""

from collections.abc import Iterator, Sequence

import torch

from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.speaker import SpeakerModel, speaker_moments

CLIPS_AXIS = "clips of the speaker that were heard before"
CLIPS = (0, 1, 2, 5, 10, 20, 60)  # of the curve
EMOTIONS = (1, 2, 3)  # numbers of emotions that a speaker shows
# Accuracies of few emotions: without adaptation, with all that a speaker's
# clips have in common taken for the voice, with a speaker model.
ADAPTATIONS = ("unadapted", "all_as_voice", "adapted")


class SpeakerEmbeddings:
    """Embeddings and targets of an evaluation, by speaker.

    Batches may have any size and come in any order. A second embedding of the
    same utterance is dropped, as ``Scores`` does.
    """

    def __init__(self):
        self._rows = {}

    def append(
        self,
        ids: Sequence[str],
        speakers: Sequence[str],
        embeddings: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Add a batch.

        Arguments
        ---------
        ids : sequence of str
            B utterance ids.
        speakers : sequence of str
            B names.
        embeddings : torch.Tensor
            [B, E].
        targets : torch.Tensor
            [B] true class indices.
        """
        rows = zip(ids, speakers, embeddings, targets, strict=True)
        for utt_id, *row in rows:
            self._rows.setdefault(utt_id, row)

    @property
    def ids(self) -> list[str]:
        """N utterance ids, sorted: the order of all that follows."""
        return sorted(self._rows)

    @property
    def speakers(self) -> list[str]:
        """N names."""
        return [self._rows[utt_id][0] for utt_id in self.ids]

    @property
    def embeddings(self) -> torch.Tensor:
        """Embeddings [N, E]."""
        return torch.stack([self._rows[utt_id][1] for utt_id in self.ids])

    @property
    def targets(self) -> torch.Tensor:
        """True class indices [N]."""
        return torch.stack([self._rows[utt_id][2] for utt_id in self.ids])

    def by_speaker(
        self,
    ) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Go through the speakers.

        Yields
        ------
        list of int
            Places of the speaker's n utterances among ``ids``.
        torch.Tensor
            [n, E] embeddings.
        torch.Tensor
            [n] targets.
        """
        places: dict[str, list[int]] = {}
        embeddings, targets = self.embeddings, self.targets
        for place, speaker in enumerate(self.speakers):
            places.setdefault(speaker, []).append(place)
        for chosen in places.values():
            yield chosen, embeddings[chosen], targets[chosen]

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
        rows: dict[int, torch.Tensor] = {}
        for places, embeddings, _ in self.by_speaker():
            speaker = speaker_moments(embeddings, classifier, model)
            outputs = classifier(embeddings, speaker)
            rows.update(zip(places, outputs, strict=True))
        return torch.stack([rows[place] for place in sorted(rows)])

    @torch.no_grad()
    def accuracy_after_clips(
        self,
        classifier: Classifier,
        clips: int,
        model: SpeakerModel | None = None,
    ) -> float:
        """WA if each utterance comes after some others of its speaker.

        Arguments
        ---------
        classifier, model
            Of ``speaker_moments``.
        clips : int
            Number of others, drawn at random, twice for each utterance; all
            that there are, if fewer.

        Returns
        -------
        float
            Fraction of right predictions.
        """
        generator = torch.Generator().manual_seed(0)
        right = total = 0
        for places, embeddings, targets in self.by_speaker():
            for k in [*range(len(places))] * 2:
                order = torch.randperm(len(places), generator=generator)
                before = embeddings[order[order != k][:clips]]
                speaker = None
                if len(before):
                    speaker = speaker_moments(before, classifier, model)
                predicted = classifier(embeddings[k], speaker).argmax()
                right += int(predicted == targets[k])
                total += 1
        return right / total

    @torch.no_grad()
    def accuracy_with_emotions(
        self,
        classifier: Classifier,
        emotions: int,
        model: SpeakerModel | None = None,
    ) -> dict[str, float]:
        """WA if each speaker shows some emotions and no others.

        Arguments
        ---------
        classifier, model
            Of ``speaker_moments``.
        emotions : int
            Number of those that the utterances have, drawn at random, ten
            times for each speaker.

        Returns
        -------
        dict
            Each of ``ADAPTATIONS`` → fraction of right predictions.
        """
        generator = torch.Generator().manual_seed(0)
        classes = self.targets.unique()
        right, total = dict.fromkeys(ADAPTATIONS, 0), 0
        draws = 10 if emotions < len(classes) else 1
        for _, embeddings, targets in self.by_speaker():
            for _ in range(draws):
                order = torch.randperm(len(classes), generator=generator)
                shown = torch.isin(targets, classes[order[:emotions]])
                if not shown.any():
                    continue
                clips, expected = embeddings[shown], targets[shown]
                speakers = (
                    None,
                    speaker_moments(clips, classifier),
                    speaker_moments(clips, classifier, model),
                )
                for name, speaker in zip(ADAPTATIONS, speakers, strict=True):
                    predicted = classifier(clips, speaker).argmax(dim=1)
                    right[name] += int((predicted == expected).sum())
                total += len(clips)
        return {name: count / total for name, count in right.items()}

    def curve(
        self, classifier: Classifier, model: SpeakerModel | None = None
    ) -> dict:
        """Accuracy by how much was heard of a speaker before.

        Arguments
        ---------
        classifier, model
            Of ``speaker_moments``.

        Returns
        -------
        dict
            ``clips`` and ``weighted_accuracy`` after so many, lists of one
            size. ``emotions`` and each of ``ADAPTATIONS``: the same for
            numbers of emotions.
        """
        n_classes = len(self.targets.unique())
        emotions = [*(n for n in EMOTIONS if n < n_classes), n_classes]
        few = [
            self.accuracy_with_emotions(classifier, n, model) for n in emotions
        ]
        return {
            "clips": list(CLIPS),
            "weighted_accuracy": [
                self.accuracy_after_clips(classifier, n, model) for n in CLIPS
            ],
            "emotions": emotions,
            **{name: [row[name] for row in few] for name in ADAPTATIONS},
        }

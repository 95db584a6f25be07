"""Speaker adaptation: accuracy by the number of a speaker's earlier clips.

A voice that is always loud and high is not always angry. What a speaker's
embeddings have in common is taken off before the classifier: each number is
standardised by mean and variance of that speaker's clips instead of the
training data's; see ``lobes.speaker``. The emotions of the clips are unknown,
and a ``SpeakerModel`` keeps those that they have in common from being taken for
the voice.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch

from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.speaker import SpeakerModel, speaker_moments

CLIPS_AXIS = "earlier clips of the speaker"
CLIPS = (0, 1, 2, 5, 10, 20, 60)  # of the curve
EMOTIONS = (1, 2, 3)  # numbers of emotions that a speaker shows
# Accuracies of few emotions: without adaptation, with all that a speaker's
# clips have in common taken for the voice, with a speaker model.
ADAPTATIONS = ("unadapted", "all_as_voice", "adapted")


Clips = tuple[list[int], torch.Tensor, torch.Tensor]  # of one speaker
# Embeddings [m, E] that a speaker is known by; [n, E] of utterances of theirs
# that are classified; [n] targets.
Draw = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class SpeakerEmbeddings:
    """Embeddings and targets of an evaluation, by speaker.

    Batches may have any size and come in any order. A second embedding of the
    same utterance is dropped, as ``Scores`` does.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list] = {}

    def __bool__(self) -> bool:
        return bool(self._rows)

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

    def columns(
        self,
    ) -> tuple[list[str], list[str], torch.Tensor, torch.Tensor]:
        """All utterances added, sorted by id.

        Returns
        -------
        list of str
            N utterance ids.
        list of str
            N speakers.
        torch.Tensor
            [N, E] embeddings.
        torch.Tensor
            [N] true class indices.
        """
        ids = sorted(self._rows)
        rows = [self._rows[utt_id] for utt_id in ids]
        speakers, *tensors = zip(*rows, strict=True)
        embeddings, targets = map(torch.stack, tensors)
        return ids, list(speakers), embeddings, targets

    def by_speaker(self) -> Iterator[Clips]:
        """Go through the speakers.

        Yields
        ------
        list of int
            Places of the speaker's n utterances among ``columns``.
        torch.Tensor
            [n, E] embeddings.
        torch.Tensor
            [n] targets.
        """
        _, speakers, embeddings, targets = self.columns()
        for name in dict.fromkeys(speakers):
            places = [i for i, other in enumerate(speakers) if other == name]
            yield places, embeddings[places], targets[places]

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

    def after_clips(self, n: int) -> Iterator[Draw]:
        """Draw clips that come before each utterance, all of its speaker.

        Arguments
        ---------
        n : int
            Number of others, drawn at random, twice for each utterance; all
            that there are, if fewer.

        Yields
        ------
        tuple
            See ``Draw``; one utterance.
        """
        generator = torch.Generator().manual_seed(0)
        for _, embeddings, targets in self.by_speaker():
            for k in [*range(len(targets))] * 2:
                order = torch.randperm(len(targets), generator=generator)
                before = embeddings[order[order != k][:n]]
                yield before, embeddings[[k]], targets[[k]]

    def with_emotions(self, n: int) -> Iterator[Draw]:
        """Draw emotions that each speaker shows, and no others.

        Arguments
        ---------
        n : int
            Number of those that the utterances have, drawn at random, ten
            times for each speaker.

        Yields
        ------
        tuple
            See ``Draw``; the speaker's utterances of these emotions, adapted
            to themselves.
        """
        generator = torch.Generator().manual_seed(0)
        classes = self.columns()[-1].unique()
        draws = 10 if n < len(classes) else 1
        for _, embeddings, targets in self.by_speaker():
            for _ in range(draws):
                order = torch.randperm(len(classes), generator=generator)
                shown = torch.isin(targets, classes[order[:n]])
                if shown.any():
                    clips = embeddings[shown]
                    yield clips, clips, targets[shown]

    def curve(
        self, classifier: Classifier, model: SpeakerModel | None = None
    ) -> dict:
        """Accuracy by the number of earlier clips, and by that of emotions.

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
        n_classes = len(self.columns()[-1].unique())
        emotions = [*(n for n in EMOTIONS if n < n_classes), n_classes]
        after, few = (
            [accuracies(draw(n), classifier, model) for n in numbers]
            for draw, numbers in (
                (self.after_clips, CLIPS),
                (self.with_emotions, emotions),
            )
        )
        return {
            "clips": list(CLIPS),
            "weighted_accuracy": [row["adapted"] for row in after],
            "emotions": emotions,
            **{name: [row[name] for row in few] for name in ADAPTATIONS},
        }


@torch.no_grad()
def accuracies(
    draws: Iterable[Draw],
    classifier: Classifier,
    model: SpeakerModel | None = None,
) -> dict[str, float]:
    """WA of utterances whose speaker is known by some clips.

    Arguments
    ---------
    draws : iterable of tuple
        See ``Draw``.
    classifier, model
        Of ``speaker_moments``.

    Returns
    -------
    dict
        Each of ``ADAPTATIONS`` → fraction of right predictions.
    """
    right = []
    for known, clips, targets in draws:
        voice = adapted = None
        if len(known):
            voice = speaker_moments(known, classifier)
            adapted = speaker_moments(known, classifier, model)
        outputs = [classifier(clips, x) for x in (None, voice, adapted)]
        right.append(torch.stack(outputs).argmax(dim=2) == targets)  # [3, n]
    fractions = torch.cat(right, dim=1).double().mean(dim=1)
    return dict(zip(ADAPTATIONS, fractions.tolist(), strict=True))

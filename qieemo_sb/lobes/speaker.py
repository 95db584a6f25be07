"""Adaptation to a speaker from unlabelled clips.

The classifier standardises pooled vectors by the moments of the training data.
For a known speaker it takes that speaker's moments instead. The mean of a
speaker's clips mixes the voice with the emotions they hold; ``SpeakerModel``
separates the two.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qieemo_sb.lobes import Part
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.normalization import Moments

PRIOR_CLIPS = 5.0  # clips that the training data's moments count as
MIN_SPEAKERS = 3  # fewer do not show how speakers differ
STEPS = 30  # of EM
PSEUDO_CLIPS = 0.5  # the mixture's prior for each emotion, on average
SHRINKAGE = 0.3  # of covariances, to a multiple of the identity


class SpeakerModel(Part):
    r"""Subtracts the emotions of unlabelled clips before the voice is measured.

    The mean of a speaker's clips describes the voice if their emotions are
    distributed as in the training data. The mean of an angry speaker's clips
    contains anger, too, and subtracting it would subtract the answer. With
    the logits z_i of clip i of a speaker:

    .. math::

        z_i = v + m_{k_i} + \varepsilon_i, \quad v \sim N(v_0, S), \quad
        k_i \sim \pi, \quad \varepsilon_i \sim N(0, W)

    v is the voice and m_k the effect of emotion k on the logits; v_0, S, m
    and W are measured on training speakers. EM estimates v, the mixture π and
    the probabilities of each k_i twice: with π free, and with the π of the
    training data. The Bayesian information criterion (Schwarz, 1978) weighs
    the free estimate, which has C - 1 more parameters. With that weight, the
    effects of the emotions on pooled vectors are subtracted.

    Arguments
    ---------
    width : int
        E of a pooled vector.
    n_classes : int
        C.

    Example
    -------
    >>> model = SpeakerModel(width=3, n_classes=2)
    >>> moments = model.voice(torch.randn(4, 3), torch.randn(4, 2))
    >>> moments.mean.shape
    torch.Size([3])
    """

    usual: Tensor  # [C] mixture of emotions in the training data
    content: Tensor  # [C, E] effects of emotions on vectors
    emotions: Tensor  # [C, C] effects of emotions on logits
    centre: Tensor  # [C] mean voice
    within: Tensor  # [C, C] covariance of the noise
    between: Tensor  # [C, C] covariance of voices

    def __init__(self, width: int, n_classes: int):
        super().__init__()
        self.width = width
        self.n_classes = n_classes
        eye = torch.eye(n_classes)
        self.register_buffer("usual", torch.full((n_classes,), 1 / n_classes))
        self.register_buffer("content", torch.zeros(n_classes, width))
        self.register_buffer("emotions", torch.zeros(n_classes, n_classes))
        self.register_buffer("centre", torch.zeros(n_classes))
        self.register_buffer("within", eye.clone())
        self.register_buffer("between", eye.clone())

    @classmethod
    @torch.no_grad()
    def fitted(
        cls,
        classifier: Classifier,
        embedding: Tensor,
        targets: Tensor,
        speakers: Sequence[str],
    ) -> "SpeakerModel | None":
        """Measure a model on training clips, by least squares.

        Arguments
        ---------
        classifier : Classifier
            In eval mode.
        embedding : torch.Tensor
            [N, E] pooled vectors.
        targets : torch.Tensor
            [N] class indices.
        speakers : sequence of str
            N names.

        Returns
        -------
        SpeakerModel or None
            None for fewer than three speakers, an emotion without a clip, or
            hardly more clips than speakers.
        """
        n_classes, width = classifier.n_classes, embedding.shape[1]
        names = sorted(set(speakers))
        spare = len(targets) - len(names) - (n_classes - 1)
        shown = len(targets.unique())
        if len(names) < MIN_SPEAKERS or shown < n_classes or spare < n_classes:
            return None
        logits = classifier.logits(embedding)
        measured = torch.cat([embedding, logits], dim=-1).double().cpu()
        places = {name: i for i, name in enumerate(names)}
        indices = torch.tensor([places[name] for name in speakers])
        targets = targets.cpu()
        usual = targets.bincount(minlength=n_classes).double() / len(targets)
        voices, effects, residuals = _two_way(measured, indices, targets, usual)
        # The vectors come first, then the logits.
        voices, residuals = voices[:, width:], residuals[:, width:]
        model = cls(width, n_classes)
        model.usual.copy_(usual)
        model.content.copy_(effects[:, :width])
        model.emotions.copy_(effects[:, width:])
        model.centre.copy_(voices.mean(dim=0))
        model.within.copy_(_shrunk(residuals.T @ residuals / spare))
        model.between.copy_(_shrunk(voices.T.cov()))
        return model.to(embedding.device)

    @torch.no_grad()
    def voice(self, vectors: Tensor, logits: Tensor) -> Moments:
        """Estimate a speaker's moments for emotions as frequent as in training.

        Arguments
        ---------
        vectors : torch.Tensor
            [N, E] of the speaker's clips.
        logits : torch.Tensor
            [N, C] of the same clips, without adaptation.

        Returns
        -------
        Moments
        """
        vectors = vectors.float()
        shares = self.emotion_shares(logits).to(vectors)
        moments = Moments.of(vectors - shares @ self.content)
        spread = self.usual @ self.content.square()  # of usual emotions
        variance = moments.variance + shares.sum(dim=1).mean() * spread
        return Moments(moments.count, moments.mean, variance)

    def emotion_shares(self, logits: Tensor) -> Tensor:
        """Share of each emotion's effect to subtract from each clip.

        Arguments
        ---------
        logits : torch.Tensor
            [N, C].

        Returns
        -------
        torch.Tensor
            [N, C] float64 on the CPU: probabilities times their weight.
        """
        logits = logits.double().cpu()
        free, probabilities = self._expect(logits, free=True)
        usual, _ = self._expect(logits, free=False)
        penalty = (self.n_classes - 1) / 2 * math.log(len(logits))
        return torch.sigmoid(free - usual - penalty) * probabilities

    def _expect(self, z, free):
        """EM from several starts → best log-likelihood, probabilities [N, C].

        The mixture is free, or that of the training data.
        """
        m, v_0 = self.emotions.double().cpu(), self.centre.double().cpu()
        w = self.within.double().cpu().inverse()
        s = self.between.double().cpu().inverse()
        root = torch.linalg.cholesky(w)  # |x @ root|² = x W⁻¹ x
        solve = (len(z) * w + s).inverse()
        voices = torch.cat([v_0[None], z.mean(0)[None], z.mean(0) - m])
        usual = self.usual.double().cpu()
        pseudo = PSEUDO_CLIPS * self.n_classes * usual
        mixture = usual.expand_as(voices)
        for _ in range(STEPS):
            joint = self._log_joint(z, voices, mixture, m, root)
            shares = joint.softmax(dim=-1)  # [starts, N, C]
            if free:
                counts = shares.sum(dim=1) + pseudo
                mixture = counts / counts.sum(dim=-1, keepdim=True)
            residual = (z - shares @ m).sum(dim=1)
            voices = (residual @ w + v_0 @ s) @ solve
        joint = self._log_joint(z, voices, mixture, m, root)
        offsets = voices - v_0
        likelihood = joint.logsumexp(dim=-1).sum(dim=-1)
        likelihood = likelihood - ((offsets @ s) * offsets).sum(dim=-1) / 2
        prior = mixture.log() @ pseudo if free else 0.0
        best = (likelihood + prior).argmax()
        return likelihood[best], joint[best].softmax(dim=-1)

    @staticmethod
    def _log_joint(z, voices, mixture, m, root):
        """Log of π_k N(z_i; v + m_k, W) up to a constant, [starts, N, C]."""
        expected = (voices[:, None] + m) @ root  # [starts, C, C]
        offsets = (z @ root)[:, None] - expected[:, None]  # [starts, N, C, C]
        return mixture.log()[:, None] - offsets.square().sum(dim=-1) / 2


def adapted(prior: Moments, speaker: Moments) -> Moments:
    """Merge a speaker's moments with those of the training data.

    Arguments
    ---------
    prior : Moments
        Of the training data. They count as ``PRIOR_CLIPS`` clips.
    speaker : Moments
        Of the speaker's clips.

    Returns
    -------
    Moments
    """
    count = torch.full_like(speaker.count, PRIOR_CLIPS)
    return Moments(count, prior.mean, prior.variance).merge(speaker)


@torch.no_grad()
def speaker_moments(
    vectors: Tensor, classifier: Classifier, model: SpeakerModel | None = None
) -> Moments:
    """Moments by which a speaker's vectors are standardised.

    Arguments
    ---------
    vectors : torch.Tensor
        [N, E] of unlabelled clips.
    classifier : Classifier
        In eval mode.
    model : SpeakerModel or None
        Separates voice and emotion; None: the plain moments of the clips.

    Returns
    -------
    Moments
        See ``adapted``.
    """
    if model is None:
        moments = Moments.of(vectors)
    else:
        moments = model.voice(vectors, classifier.logits(vectors))
    return adapted(classifier.standard.moments, moments)


def _two_way(measured, speakers, targets, usual):
    """Least squares of measured [N, M] on speakers and emotions.

    Returns the mean of each speaker [S, M] at the usual mixture [C] of
    emotions, the effect of each emotion [C, M], and the residuals [N, M].
    """
    one_hot = torch.nn.functional.one_hot
    speakers = one_hot(speakers).to(measured.dtype)
    # The first emotion is the reference: with all, columns would be dependent.
    emotions = one_hot(targets, len(usual)).to(measured.dtype)[:, 1:]
    design = torch.cat([speakers, emotions], dim=1)
    solution = torch.linalg.lstsq(design, measured).solution
    voices, effects = solution.split([speakers.shape[1], emotions.shape[1]])
    effects = torch.nn.functional.pad(effects, (0, 0, 1, 0))
    common = usual @ effects
    return voices + common, effects - common, measured - design @ solution


def _shrunk(covariance):
    """A covariance, shrunk towards a multiple of the identity: invertible."""
    size = len(covariance)
    mean = covariance.diagonal().mean().clamp(min=1e-6)
    eye = torch.eye(size, dtype=covariance.dtype)
    return (1 - SHRINKAGE) * covariance + SHRINKAGE * mean * eye


SPEAKER_MODELS = {"SpeakerModel": SpeakerModel}

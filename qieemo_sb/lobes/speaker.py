"""Voice or emotion: what a speaker's clips have in common may be either."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qieemo_sb.lobes import Part
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.normalization import Moments

PRIOR_CLIPS = 5.0

MIN_SPEAKERS = 3  # fewer do not tell how speakers differ
STEPS = 30  # of EM
FEW = 0.5  # clips that an emotion is given beforehand, on average
SHRINKAGE = 0.3  # of covariances, to a multiple of the identity


class SpeakerModel(Part):
    r"""Takes the emotions of unlabelled clips off before the voice is measured.

    The mean of a speaker's clips is that of their voice if they hold emotions
    as the training data do. Of someone who is angry throughout it is anger,
    too, and to take it off is to take the answer off. With the logits z_i of
    clip i of a speaker:

    .. math::

        z_i = v + m_{k_i} + \varepsilon_i, \quad v \sim N(v_0, S), \quad
        k_i \sim \pi, \quad \varepsilon_i \sim N(0, W)

    v is the voice, m_k what emotion k does to logits; v_0, S, m and W are
    those of the training speakers. EM finds v, the mixture π and the
    probabilities of each k_i, once for any π, once for that of the training
    data; the Bayesian information criterion (Schwarz, 1978) says how far to
    trust the first, which has C - 1 numbers more to fit. As far as it is
    trusted, what the emotions do to pooled vectors is taken off them.

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

    def __init__(self, width: int, n_classes: int):
        super().__init__(width=width, n_classes=n_classes)
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
        """Measure voices and emotions of training clips, by least squares.

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
            None for fewer than three speakers, an emotion that nobody shows,
            or hardly more clips than speakers.
        """
        n_classes = classifier.n_classes
        names = sorted(set(speakers))
        spare = len(targets) - len(names) - (n_classes - 1)
        shown = len(targets.unique())
        if len(names) < MIN_SPEAKERS or shown < n_classes or spare < n_classes:
            return None
        logits = classifier.logits(embedding)
        measured = torch.cat([embedding, logits], dim=-1).double().cpu()
        places = {name: i for i, name in enumerate(names)}
        who = torch.tensor([places[name] for name in speakers])
        targets = targets.cpu()
        usual = targets.bincount(minlength=n_classes).double() / len(targets)
        voices, effects, rest = _two_way(measured, who, targets, usual)
        model = cls(embedding.shape[1], n_classes)
        width = model.width
        model.usual.copy_(usual)
        errors, voices = rest[:, width:], voices[:, width:]
        model.content.copy_(effects[:, :width])
        model.emotions.copy_(effects[:, width:])
        model.centre.copy_(voices.mean(dim=0))
        model.within.copy_(_shrunk(errors.T @ errors / spare))
        model.between.copy_(_shrunk(voices.T.cov()))
        return model.to(embedding.device)

    @torch.no_grad()
    def voice(self, vectors: Tensor, logits: Tensor) -> Moments:
        """Moments of a speaker's vectors if emotions came as in training.

        Arguments
        ---------
        vectors : torch.Tensor
            [N, E] of the speaker's clips.
        logits : torch.Tensor
            [N, C] of the same, by the training data's moments.

        Returns
        -------
        Moments
        """
        vectors = vectors.float()  # of bfloat16, too
        shares = self.emotion_shares(logits).to(vectors)
        own = Moments.of(vectors - shares @ self.content)
        spread = self.usual @ self.content.square()  # of usual emotions
        variance = own.variance + shares.sum(dim=1).mean() * spread
        return Moments(own.count, own.mean, variance)

    def emotion_shares(self, logits: Tensor) -> Tensor:
        """How much of each emotion is to be taken off each clip.

        Arguments
        ---------
        logits : torch.Tensor
            [N, C].

        Returns
        -------
        torch.Tensor
            [N, C] float64 on the CPU, probabilities times the trust in them.
        """
        logits = logits.double().cpu()
        any_mixture, probabilities = self._expect(logits, as_usual=False)
        usual, _ = self._expect(logits, as_usual=True)
        penalty = (self.n_classes - 1) / 2 * math.log(len(logits))
        trust = torch.sigmoid(any_mixture - usual - penalty)
        return trust * probabilities

    def _expect(self, z, as_usual):
        """EM from several starts → best log likelihood, probabilities."""
        m, v_0 = self.emotions.double().cpu(), self.centre.double().cpu()
        w = self.within.double().cpu().inverse()
        s = self.between.double().cpu().inverse()
        root = torch.linalg.cholesky(w)  # |x @ root|² = x W⁻¹ x
        solve = (len(z) * w + s).inverse()
        voices = torch.cat([v_0[None], z.mean(0)[None], z.mean(0) - m])
        usual = self.usual.double().cpu()
        few, mixture = FEW * self.n_classes * usual, usual.expand_as(voices)
        for _ in range(STEPS):
            joint = self._log_joint(z, voices, mixture, m, root)
            shares = joint.softmax(dim=-1)  # [starts, N, C]
            if not as_usual:
                counts = shares.sum(dim=1) + few
                mixture = counts / counts.sum(dim=-1, keepdim=True)
            left = (z - shares @ m).sum(dim=1)
            voices = (left @ w + v_0 @ s) @ solve
        joint = self._log_joint(z, voices, mixture, m, root)
        apart = voices - v_0
        likelihood = joint.logsumexp(dim=-1).sum(dim=-1)
        likelihood = likelihood - ((apart @ s) * apart).sum(dim=-1) / 2
        prior = 0.0 if as_usual else mixture.log() @ few
        best = (likelihood + prior).argmax()
        return likelihood[best], joint[best].softmax(dim=-1)

    @staticmethod
    def _log_joint(z, voices, mixture, m, root):
        """Log of π_k N(z_i; v + m_k, W), but for a constant, [starts, N, C]."""
        expected = (voices[:, None] + m) @ root  # [starts, C, C]
        apart = (z @ root)[:, None] - expected[:, None]  # [starts, N, C, C]
        return mixture.log()[:, None] - apart.square().sum(dim=-1) / 2


def _two_way(measured, who, what, usual):
    """Least squares of measured [N, M] on speakers and emotions.

    Returns what each speaker has [S, M] if emotions come as usual [C], what
    each emotion adds to it [C, M], and what neither explains [N, M].
    """
    one_hot = torch.nn.functional.one_hot
    speakers = one_hot(who).to(measured.dtype)
    # The first emotion is in the speakers: of both, all would be too much.
    emotions = one_hot(what, len(usual)).to(measured.dtype)[:, 1:]
    design = torch.cat([speakers, emotions], dim=1)
    found = torch.linalg.lstsq(design, measured).solution
    voices, effects = found.split([speakers.shape[1], emotions.shape[1]])
    effects = torch.nn.functional.pad(effects, (0, 0, 1, 0))
    common = usual @ effects
    return voices + common, effects - common, measured - design @ found


def _shrunk(covariance):
    """A covariance, nearer to a multiple of the identity and invertible."""
    size = len(covariance)
    mean = covariance.diagonal().mean().clamp(min=1e-6)
    eye = torch.eye(size, dtype=covariance.dtype)
    return (1 - SHRINKAGE) * covariance + SHRINKAGE * mean * eye


def adapted(prior: Moments, own: Moments) -> Moments:
    """What a speaker's vectors are standardised by.

    Arguments
    ---------
    prior : Moments
        Of the training data.
    own : Moments
        Of the speaker's clips.

    Returns
    -------
    Moments
        Of both together, the prior as ``PRIOR_CLIPS`` clips.

    Example
    -------
    >>> prior = Moments.of(torch.tensor([[-1.0], [1.0]]))
    >>> own = Moments.of(torch.full((15, 1), 4.0))
    >>> adapted(prior, own).mean
    tensor([3.])
    """
    count = torch.full_like(own.count, PRIOR_CLIPS)
    return Moments(count, prior.mean, prior.variance).merge(own)


@torch.no_grad()
def speaker_moments(
    vectors: Tensor, classifier: Classifier, model: SpeakerModel | None = None
) -> Moments:
    """What a speaker's vectors are standardised by, of unlabelled clips.

    Arguments
    ---------
    vectors : torch.Tensor
        [N, E] of the clips.
    classifier : Classifier
        In eval mode.
    model : SpeakerModel or None
        Tells voice from emotion; None: all is taken for the voice.

    Returns
    -------
    Moments
    """
    if model is None:
        own = Moments.of(vectors)
    else:
        own = model.voice(vectors, classifier.logits(vectors))
    return adapted(classifier.standard.moments, own)


SPEAKER_MODELS = {"SpeakerModel": SpeakerModel}

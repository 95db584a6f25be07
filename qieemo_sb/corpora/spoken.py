"""Speech-text pairs for those who have none: sentences, spoken by machines.

Each utterance is a sentence in a voice, at a rate, a pitch, a range of pitch
and a loudness of its own; half of them in a room, most of them in noise.
Valid and test have voices and sentences that train lacks::

    FOLDER/train/0001/train-0001234.flac   16 kHz; valid and test likewise
    FOLDER/train.json, valid.json, test.json, prepare.json

An utterance is a function of the seed and its number alone: a run that was
stopped goes on, several processes share the work, and ten hours begin with
the same five.
"""

import math
import multiprocessing
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal
from tqdm import tqdm

from qieemo_sb import espeak, flite
from qieemo_sb.corpora.files import replacing
from qieemo_sb.corpora.manifest import (
    SPLITS,
    Utterance,
    prepared,
    read_json,
    write_json,
    write_splits,
)
from qieemo_sb.corpora.sentences import made_up, sentences_of
from qieemo_sb.errors import CorpusError
from qieemo_sb.frames import SAMPLE_RATE

SYNTHESISERS = ("espeak", "flite")
NATURE_FILE = "speech.json"  # what the audio in a folder depends on
SECONDS = 3.2  # of an utterance, about
HELD_OUT = 200  # utterances of valid and of test

# English as espeak-ng speaks it, American twice as often as any other.
ACCENTS = tuple(
    """
    en-us en-us en-us-nyc en-gb en-gb-x-rp en-gb-scotland en-gb-x-gbclan
    en-gb-x-gbcwmd en-029
    """.split()
)
# Whispers, robots and jokes: nobody speaks so.
UNNATURAL = frozenset(
    """
    AnxiousAndy Demonic Tweaky UniRobot anikaRobot croak fast robosoft
    robosoft2 robosoft3 robosoft4 robosoft5 robosoft6 robosoft7 robosoft8
    whisper whisperf
    """.split()
)
# Voices of valid and test, and of nothing else.
HELD_OUT_VOICES = {
    "espeak": ("Andrea", "Lee", "f4", "klatt2", "m3", "travis"),
    "flite": ("awb",),
}


@dataclass(frozen=True)
class Job:
    """One utterance to be said.

    Arguments
    ---------
    split : str
        "train", "valid" or "test".
    number : int
        In its split.
    text : str
        What to say.
    synthesiser : str
        "espeak" or "flite".
    seed : int
        Of the corpus.
    """

    split: str
    number: int
    text: str
    synthesiser: str
    seed: int

    @property
    def utt_id(self) -> str:
        """``train-0001234`` for number 1234 of train."""
        return f"{self.split}-{self.number:07}"

    @property
    def wav(self) -> str:
        """Path below the folder."""
        return f"{self.split}/{self.number // 1000:04}/{self.utt_id}.flac"


def prepare_spoken(
    output_folder: str | Path,
    hours: float = 5.0,
    text: str | Path | None = None,
    synthesisers: Iterable[str] = ("espeak",),
    seed: int = 1986,
    workers: int | None = None,
) -> None:
    """Write the pairs; what is there already is kept.

    Arguments
    ---------
    output_folder : str or Path
        Gets audio and manifests.
    hours : float
        Of training speech, about.
    text : str, Path or None
        A plain English text whose sentences are said; None: made-up ones.
    synthesisers : iterable of str
        "espeak" (extra ``demo``) and "flite" (a program), in turn.
    seed : int
        Of everything.
    workers : int or None
        Processes; None: one a core. The result is the same.

    Raises
    ------
    CorpusError
        An option makes no sense, the text cannot be used, the folder has
        other speech, or a synthesiser is not installed.
    """
    folder = Path(os.path.abspath(output_folder))
    synthesisers = list(synthesisers)
    _check(hours, synthesisers)
    # All that an utterance depends on; more hours add utterances.
    nature = {
        "text": str(text) if text else None,
        "synthesisers": synthesisers,
        "seed": seed,
    }
    options = {"corpus": "spoken", "data_folder": str(folder), "hours": hours}
    if prepared(folder, {**options, **nature}):
        return
    _claim(folder, nature)
    sentences = sentences_of(text) if text else None
    n_train = max(1, round(3600 * hours / SECONDS))
    jobs = [
        job
        for split, n in zip(SPLITS, (n_train, HELD_OUT, HELD_OUT), strict=True)
        for job in _jobs(split, n, sentences, synthesisers, seed)
    ]
    utterances = _say_all(folder, jobs, workers)
    splits = {name: [] for name in SPLITS}
    for job, utterance in zip(jobs, utterances, strict=True):
        splits[job.split].append(utterance)
    write_splits(splits, folder, {**options, **nature})


# -- Planning --------------------------------------------------------------


def _check(hours, synthesisers):
    unknown = [s for s in synthesisers if s not in SYNTHESISERS]
    if unknown or not synthesisers:
        raise CorpusError(
            f"synthesisers is {synthesisers}; it takes "
            f"{' and '.join(SYNTHESISERS)}."
        )
    if not hours > 0:
        raise CorpusError(f"hours is {hours}; it must be above 0.")
    if "flite" in synthesisers and not flite.installed():
        raise CorpusError(flite.MISSING)
    if "espeak" in synthesisers:
        espeak.languages()  # raises ImportError, which names the extra


def _claim(folder, nature):
    """Refuse a folder with audio that other options made."""
    path = folder / NATURE_FILE
    before = read_json(path) if path.exists() else nature
    if before != nature:
        raise CorpusError(
            f"{folder} has speech made with {before}; now {nature} is asked "
            "for. Choose another folder, or delete this one."
        )
    write_json(nature, path)


def _jobs(split, count, sentences, synthesisers, seed):
    """Number → what is said, in turn by each synthesiser."""
    for number in range(count):
        name = f"{split} {number}"
        yield Job(
            split,
            number,
            _text(name, split, sentences, seed),
            synthesisers[number % len(synthesisers)],
            seed,
        )


def _text(name, split, sentences, seed):
    """A sentence; train and the other splits share none."""
    rng = random.Random(f"{seed} text {name}")
    if sentences is None:
        return made_up(f"{seed} {name}")
    # Every tenth sentence of the text is kept for valid and test.
    kept = [
        sentence
        for i, sentence in enumerate(sentences)
        if (i % 10 == 9) != (split == "train")
    ]
    return rng.choice(kept or sentences)


# -- Speaking --------------------------------------------------------------


def _say_all(folder, jobs, workers):
    """Utterances of all jobs, in their order; audio that is there stays."""
    # Fresh processes: a forked copy of a threaded program may hang.
    context = multiprocessing.get_context("spawn")
    with (
        context.Pool(workers) as pool,
        tqdm(total=len(jobs), desc="Speaking, once") as bar,
    ):
        utterances = []
        for utterance in pool.imap(partial(_say, folder), jobs, chunksize=20):
            utterances.append(utterance)
            bar.update()
    return utterances


def _say(folder, job):
    """Write a job's audio unless it is there → Utterance."""
    path = folder / job.wav
    rng = random.Random(f"{job.seed} voice {job.split} {job.number}")
    voice, speak = VOICES[job.synthesiser](job, rng)
    if not path.exists():
        speech = speak()
        noise = np.random.default_rng(rng.getrandbits(64))
        samples = _record(speech, rng, noise)
        with replacing(path) as partial_path:
            soundfile.write(partial_path, samples, SAMPLE_RATE, "PCM_16")
    return Utterance(
        utt_id=job.utt_id,
        wav=job.wav,
        length=soundfile.info(path).frames / SAMPLE_RATE,
        emo="",
        wrd=job.text,
        spk_id=voice,
    )


def _espeak(job, rng):
    """One of espeak-ng's voices → its name, and how it says the text."""
    held_out = HELD_OUT_VOICES["espeak"]
    variants = held_out
    if job.split == "train":
        variants = [v for v in _variants() if v not in held_out]
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(variants)}"
    settings = {
        "rate": rng.randint(120, 230),
        "pitch": rng.randint(10, 95),
        "pitch_range": rng.randint(20, 99),
    }

    def speak():
        samples = espeak.speak(job.text, voice, **settings)
        return _resampled(samples / 2.0**15, espeak.ESPEAK_RATE)

    return voice, speak


def _flite(job, rng):
    """One of flite's voices → its name, and how it says the text."""
    held_out = HELD_OUT_VOICES["flite"]
    voices = held_out
    if job.split == "train":
        voices = [v for v in flite.VOICES if v not in held_out]
    voice = rng.choice(voices)
    settings = {
        "stretch": rng.uniform(0.8, 1.3),
        "pitch": rng.uniform(90.0, 250.0),
        "pitch_range": rng.uniform(10.0, 40.0),
    }
    return voice, lambda: _resampled(*flite.speak(job.text, voice, **settings))


VOICES = {"espeak": _espeak, "flite": _flite}


@cache
def _variants():
    """Voices of espeak-ng that a person could have."""
    return [v for v in espeak.variants() if v not in UNNATURAL and " " not in v]


def _resampled(samples, rate):
    """To 16 kHz."""
    divisor = math.gcd(rate, SAMPLE_RATE)
    return signal.resample_poly(
        samples, SAMPLE_RATE // divisor, rate // divisor
    )


# -- Recording -------------------------------------------------------------


def _record(speech, rng, noise):
    """Speech as a microphone might hear it → [S] float32 in -1 … 1."""
    speed = rng.uniform(0.85, 1.2)  # tape speed: other vocal tracts
    speech = signal.resample(speech, max(1, round(len(speech) / speed)))
    if rng.random() < 0.5:
        speech = _in_a_room(speech, rng, noise)
    level = 10 ** (rng.uniform(-38, -18) / 20)
    speech = speech * level / max(_rms(speech), 1e-9)
    if rng.random() < 0.6:
        speech = speech + _background(len(speech), level, rng, noise)
    margins = [rng.uniform(0, 0.8) for _ in range(2)]
    silence = [
        1e-4 * noise.standard_normal(round(m * SAMPLE_RATE)) for m in margins
    ]
    recorded = np.concatenate([silence[0], speech, silence[1]])
    return recorded.clip(-1, 1).astype(np.float32)


def _in_a_room(speech, rng, noise):
    """Reverberation: an impulse and noise that decays by 60 dB."""
    seconds = rng.uniform(0.1, 0.6)
    size = round(seconds * SAMPLE_RATE)
    decay = 10.0 ** (-3.0 * np.arange(size) / size)
    response = rng.uniform(0.02, 0.15) * decay * noise.standard_normal(size)
    response[0] = 1.0
    return signal.fftconvolve(speech, response)[: len(speech) + size // 2]


def _background(size, level, rng, noise):
    """White or low noise, 5 to 35 dB below the speech."""
    sound = noise.standard_normal(size)
    if rng.random() < 0.5:
        sound = signal.lfilter([1.0], [1.0, -0.95], sound)
    ratio = 10 ** (-rng.uniform(5, 35) / 20)
    return sound * level * ratio / max(_rms(sound), 1e-9)


def _rms(samples):
    return float(np.sqrt(np.mean(np.square(samples))))

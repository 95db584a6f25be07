"""Speech-text pairs without a corpus: sentences spoken by synthesisers.

Each utterance is a sentence in a voice, at a rate, a pitch, a range of pitch
and a loudness drawn at random; half of them in a room, most of them in noise.
Valid and test have voices and sentences that train lacks::

    FOLDER/train/0001/train-0001234.flac   16 kHz; valid and test likewise

An utterance is a function of the seed and its number alone: a run that was
stopped goes on, several processes share the work, and ten hours begin with
the same five.

Authors
 * The Qieemo-SB authors 2026
"""

import math
import multiprocessing
import os
import random
from functools import cache, partial
from pathlib import Path

import espeak
import flite
import numpy as np
import soundfile
from qieemo_sb.corpora.manifest import (
    SPLITS,
    Utterance,
    prepared,
    read_json,
    replacing,
    write_json,
    write_splits,
)
from qieemo_sb.errors import CorpusError
from qieemo_sb.frames import SAMPLE_RATE
from scipy import signal
from sentences import made_up, sentences_of
from tqdm import tqdm

SYNTHESISERS = ("espeak", "flite")
NATURE_FILE = "speech.json"  # what the audio in a folder depends on
SECONDS = 3.2  # of an utterance, about
HELD_OUT = 200  # utterances of valid and of test

# English as espeak-ng speaks it, American twice as often as any other.
ACCENTS = (
    "en-us en-us en-us-nyc en-gb en-gb-x-rp en-gb-scotland en-gb-x-gbclan "
    "en-gb-x-gbcwmd en-029"
).split()
# Whispers, robots and jokes: no person speaks like this.
UNNATURAL = (
    "AnxiousAndy Demonic Tweaky UniRobot anikaRobot croak fast robosoft "
    "robosoft2 robosoft3 robosoft4 robosoft5 robosoft6 robosoft7 robosoft8 "
    "whisper whisperf"
).split()
# Voices of valid and test, and of nothing else.
HELD_OUT_VOICES = {
    "espeak": ("Andrea", "Lee", "f4", "klatt2", "m3", "travis"),
    "flite": ("awb",),
}


def prepare_spoken(
    folder: str | Path,
    output_folder: str | Path | None = None,
    hours: float = 5.0,
    text: str | Path | None = None,
    synthesisers: tuple[str, ...] | list[str] = ("espeak",),
    seed: int = 1986,
    workers: int | None = None,
) -> None:
    """Speak the pairs and write their manifests; audio that is there is kept.

    Arguments
    ---------
    folder : str or Path
        Gets the audio.
    output_folder : str, Path or None
        Gets train.json, valid.json and test.json; None: ``folder``.
    hours : float
        Of training speech, about.
    text : str, Path or None
        A plain English text whose sentences are spoken; None: made-up ones.
    synthesisers : sequence of str
        "espeak" (extra ``demo``) and "flite" (a program), in turn.
    seed : int
        Of everything.
    workers : int or None
        Processes; None: one a core. The result is the same.

    Raises
    ------
    CorpusError
        An option makes no sense, the text cannot be used, the folder has
        other speech, or flite is not installed.
    ImportError
        espeak-ng is not installed.
    """
    folder = Path(os.path.abspath(folder))
    synthesisers = list(synthesisers)
    if not synthesisers or set(synthesisers) - set(SYNTHESISERS):
        known = " and ".join(SYNTHESISERS)
        raise CorpusError(f"synthesisers is {synthesisers}; it takes {known}.")
    if not hours > 0:
        raise CorpusError(f"hours is {hours}; it must be above 0.")
    if "flite" in synthesisers and not flite.installed():
        raise CorpusError(flite.MISSING)
    if "espeak" in synthesisers:
        espeak.languages()  # raises ImportError, which names the extra
    # All that an utterance depends on; more hours add utterances.
    nature = {
        "text": str(text) if text else None,
        "synthesisers": synthesisers,
        "seed": seed,
    }
    options = {"corpus": "spoken", "data_folder": str(folder), "hours": hours}
    options |= nature
    if prepared(output_folder or folder, options):
        return
    before = nature
    if (folder / NATURE_FILE).exists():
        before = read_json(folder / NATURE_FILE)
    if before != nature:
        raise CorpusError(
            f"{folder} has speech made with {before}; now {nature} is asked "
            "for. Choose another folder, or delete this one."
        )
    write_json(nature, folder / NATURE_FILE)
    splits = _speak_all(folder, hours, nature, workers)
    write_splits(splits, output_folder or folder, options)


def _speak_all(folder, hours, nature, workers):
    """Speak what is not there yet → utterances of train, valid and test."""
    sentences = sentences_of(nature["text"]) if nature["text"] else None
    n_train = max(1, round(3600 * hours / SECONDS))
    jobs = [
        (
            split,
            number,
            _text(split, number, sentences, nature["seed"]),
            nature["synthesisers"][number % len(nature["synthesisers"])],
        )
        for split, n in zip(SPLITS, (n_train, HELD_OUT, HELD_OUT), strict=True)
        for number in range(n)
    ]
    splits = {name: [] for name in SPLITS}
    speak = partial(_speak, folder, nature["seed"])
    # Fresh processes: a forked copy of a threaded program may hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        spoken = pool.imap(speak, jobs, chunksize=20)
        bar = tqdm(spoken, total=len(jobs), desc="Speaking, once")
        for job, utterance in zip(jobs, bar, strict=True):
            splits[job[0]].append(utterance)
    return splits


def _text(split, number, sentences, seed):
    """A sentence; train and the other splits share none."""
    rng = random.Random(f"{seed} text {split} {number}")
    if sentences is None:
        return made_up(f"{seed} {split} {number}")
    # Every tenth sentence of the text is kept for valid and test.
    kept = [
        sentence
        for i, sentence in enumerate(sentences)
        if (i % 10 == 9) != (split == "train")
    ]
    return rng.choice(kept or sentences)


def _speak(folder, seed, job):
    """Write a job's audio unless it is there → Utterance."""
    split, number, text, synthesiser = job
    utt_id = f"{split}-{number:07}"
    wav = f"{split}/{number // 1000:04}/{utt_id}.flac"
    rng = random.Random(f"{seed} voice {split} {number}")
    voice, speak = VOICES[synthesiser](split, text, rng)
    if not (folder / wav).exists():
        speech = speak()
        noise = np.random.default_rng(rng.getrandbits(64))
        samples = _record(speech, rng, noise)
        with replacing(folder / wav) as partial_path:
            soundfile.write(partial_path, samples, SAMPLE_RATE, "PCM_16")
    return Utterance(
        utt_id=utt_id,
        wav=wav,
        length=soundfile.info(folder / wav).frames / SAMPLE_RATE,
        wrd=text,
        spk_id=voice,
    )


def _espeak(split, text, rng):
    """One of espeak-ng's voices → its name, and a function that speaks."""
    variants = HELD_OUT_VOICES["espeak"]
    if split == "train":
        variants = [v for v in _variants() if v not in variants]
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(variants)}"
    settings = {
        "rate": rng.randint(120, 230),
        "pitch": rng.randint(10, 95),
        "pitch_range": rng.randint(20, 99),
    }

    def speak():
        samples = espeak.speak(text, voice, **settings)
        return _resampled(samples / 2.0**15, espeak.ESPEAK_RATE)

    return voice, speak


def _flite(split, text, rng):
    """One of flite's voices → its name, and a function that speaks."""
    voices = HELD_OUT_VOICES["flite"]
    if split == "train":
        voices = [v for v in flite.VOICES if v not in voices]
    voice = rng.choice(voices)
    settings = {
        "stretch": rng.uniform(0.8, 1.3),
        "pitch": rng.uniform(90.0, 250.0),
        "pitch_range": rng.uniform(10.0, 40.0),
    }
    return voice, lambda: _resampled(*flite.speak(text, voice, **settings))


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


def _record(speech, rng, noise):
    """Speech as a microphone might record it → [S] float32 in -1 … 1."""
    speed = rng.uniform(0.85, 1.2)  # tape speed: other vocal tracts
    speech = signal.resample(speech, max(1, round(len(speech) / speed)))
    if rng.random() < 0.5:  # reverberation: noise that decays by 60 dB
        size = round(rng.uniform(0.1, 0.6) * SAMPLE_RATE)
        decay = 10.0 ** (-3.0 * np.arange(size) / size)
        room = rng.uniform(0.02, 0.15) * decay * noise.standard_normal(size)
        room[0] = 1.0
        size = len(speech) + size // 2
        speech = signal.fftconvolve(speech, room)[:size]
    level = 10 ** (rng.uniform(-38, -18) / 20)
    speech = speech * level / max(_rms(speech), 1e-9)
    if rng.random() < 0.6:  # white or low noise, 5 to 35 dB below
        sound = noise.standard_normal(len(speech))
        if rng.random() < 0.5:
            sound = signal.lfilter([1.0], [1.0, -0.95], sound)
        ratio = 10 ** (-rng.uniform(5, 35) / 20)
        speech = speech + sound * level * ratio / max(_rms(sound), 1e-9)
    margins = [rng.uniform(0, 0.8) for _ in range(2)]
    before, after = (
        1e-4 * noise.standard_normal(round(m * SAMPLE_RATE)) for m in margins
    )
    recorded = np.concatenate([before, speech, after])
    return recorded.clip(-1, 1).astype(np.float32)


def _rms(samples):
    return float(np.sqrt(np.mean(np.square(samples))))

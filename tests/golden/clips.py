"""Six clips made on the spot, the same on every machine."""

import numpy as np
import soundfile

RATE = 16_000
# (seconds, pitch [Hz], formants [Hz]) of a sentence of five vowels.
VOWELS = [
    (0.25, 130, (730, 1090, 2440)),
    (0.30, 180, (270, 2290, 3010)),
    (0.20, 220, (300, 870, 2240)),
    (0.35, 160, (530, 1840, 2480)),
    (0.30, 110, (570, 840, 2410)),
]
BANDWIDTH = 90  # Hz of a formant


def sentence(rate=RATE):
    """Vowels with gaps between them: harmonics weighted by formants, [S]."""
    parts = []
    for seconds, pitch, formants in VOWELS:
        time = np.arange(round(seconds * rate)) / rate
        harmonics = pitch * np.arange(1, int(3_600 / pitch))
        gains = sum(
            1 / (1 + ((harmonics - f) / BANDWIDTH) ** 2) for f in formants
        )
        waves = np.sin(2 * np.pi * harmonics[:, None] * time)
        parts.append(np.hanning(len(time)) * (gains @ waves))
        parts.append(np.zeros(rate // 20))
    signal = np.concatenate(parts)
    return 0.3 * signal / np.abs(signal).max()


def noise(seconds, seed=0):
    """White noise that swells and falls, [S]."""
    samples = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return 0.1 * samples * np.sin(np.linspace(0, 9, len(samples)))


def stereo():
    """A sentence in 8 kHz stereo, one channel louder, [S, 2]."""
    return np.stack([sentence(8_000), 0.2 * sentence(8_000)], axis=1)


CLIPS = {
    "silence": lambda: (np.zeros(2 * RATE), RATE),
    "noise": lambda: (noise(3), RATE),
    "40 s": lambda: (np.concatenate([sentence()] * 24 + [noise(4)]), RATE),
    "8 kHz stereo": lambda: (stereo(), 8_000),
    "sentence": lambda: (sentence(), RATE),
    "30 ms": lambda: (sentence()[RATE // 10 :][:480], RATE),
}


def write_clips(folder):
    """Write the clips as WAV files → {name: path}."""
    paths = {}
    for name, make in CLIPS.items():
        samples, rate = make()
        paths[name] = folder / f"{name}.wav"
        soundfile.write(paths[name], samples, rate, subtype="FLOAT")
    return paths

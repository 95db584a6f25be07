#!/usr/bin/env python3
"""Time and memory of longer audio and larger batches.

Time and memory of a file of one second to two hours, and of batches of 1 to
32 clips. Time should be linear and memory flat. Memory is the
peak of the process above that with the model loaded.

> python bench/growth.py --whisper openai/whisper-base --wavs DIR

Authors
 * The Qieemo-SB authors 2026
"""

import tempfile
from pathlib import Path

import soundfile
import timing
from contestants import save_untrained

from qieemo_sb.frames import SAMPLE_RATE
from qieemo_sb.serving.classifier import load_model

SECONDS = [1, 10, 60, 600, 7200]
BATCHES = [1, 2, 4, 8, 16, 32]
PIECE = 60  # seconds of sound that a long file repeats


def main(arguments=None):
    parser = timing.parser(__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=SECONDS)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    options = parser.parse_args(arguments)
    about = timing.start(options)
    piece = timing.make_clips(1, options.wavs, [PIECE])[0]
    with tempfile.TemporaryDirectory() as folder:
        model = save_untrained(options.whisper, Path(folder) / "model")
        classifier = load_model(model)
        loaded = timing.resident()
        by_length = {}
        for seconds in sorted(options.seconds):
            path = Path(folder) / "long.wav"
            write_audio(path, piece, seconds)
            # A warm-up and five repeats of two hours would take the day.
            repeats = options.repeats if seconds <= PIECE else 1
            by_length[seconds] = measure(
                lambda path: classifier([path]), path, repeats, loaded
            )
    by_batch = {}
    for size in sorted(options.batches):
        wavs = timing.pad(timing.make_clips(size, options.wavs))
        seconds = wavs[1].sum().item() / SAMPLE_RATE
        by_batch[size] = measure(
            lambda batch: classifier.log_probs(classifier.embed_batch(*batch)),
            wavs,
            options.repeats,
            loaded,
        )
        by_batch[size]["seconds_of_audio"] = seconds
    results = {"loaded": loaded, "length": by_length, "batch": by_batch}
    show(results)
    timing.write(options, about, results)


def write_audio(path, piece, seconds):
    """Write a piece again and again until the file is long enough."""
    left = round(seconds * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        while left > 0:
            file.write(piece[:left].numpy())
            left -= len(piece)


def measure(call, item, repeats, loaded):
    """Seconds and peak memory of a call."""
    if repeats > 1:
        call(item)
    times, peaks = timing.Times(), []

    def timed():
        times.add(*timing.timed(call, item))

    for _ in range(repeats):
        peaks.append(timing.peak_over(loaded, timed))
    known = [peak for peak in peaks if peak is not None]
    return {**times.summary(), "peak": max(known, default=None)}


def show(results):
    if results["loaded"] is not None:
        print(f"with the model loaded: {results['loaded']:.0f} MB")
    headings = ["s", "ms a second of audio", "MB above"]
    timing.table(
        ["seconds", *headings],
        [
            [f"{seconds:g}", *cells(result, seconds)]
            for seconds, result in results["length"].items()
        ],
    )
    timing.table(
        ["batch", *headings],
        [
            [size, *cells(result, result["seconds_of_audio"])]
            for size, result in results["batch"].items()
        ],
    )


def cells(result, seconds):
    peak = result["peak"]
    return [
        f"{result['median']:.3f}",
        f"{1000 * result['median'] / seconds:.2f}",
        "" if peak is None else f"{peak:.0f}",
    ]


if __name__ == "__main__":
    main()

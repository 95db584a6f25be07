#!/usr/bin/env python3
"""A stream beside a file: differences, delay, speed and memory.

A recording of an hour is fed in chunks to the model that ships and to its
exports. The delay is the time from a chunk's last sample to the predictions
that it makes due: the time that ``feed`` takes. Differences are those of the
log-probabilities at the end from the file's, for random chunks at three rates.

> python bench/streaming.py --wavs DIR --model open

Authors
 * The Qieemo-SB authors 2026
"""

import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import timing

from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.models import DEFAULT, find_model
from qieemo_sb.serving.onnx.classifier import OnnxClassifier
from qieemo_sb.serving.onnx.export import export_onnx

RATES = (8_000, 16_000, 44_100)
CHUNK = 0.1  # seconds, as microphones give


def main(arguments=None):
    parser = timing.parser(__doc__.partition("\n")[0], whisper=False)
    parser.add_argument("--model", default=DEFAULT, help=f"default: {DEFAULT}")
    parser.add_argument("--minutes", type=float, default=60, help="default: 60")
    parser.add_argument("--cuts", type=int, default=5, help="of each rate")
    options = parser.parse_args(arguments)
    about = timing.start(options)
    wav = timing.make_clips(1, options.wavs, [60 * options.minutes])[0].numpy()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in engines(options, Path(folder)):
            found = {"hour": feed_all(engine, wav)}
            found["difference"] = {
                rate: largest_difference(engine, wav, rate, options.cuts)
                for rate in RATES
            }
            results[name] = found
    show(results)
    timing.write(options, about, results)


def engines(options, folder):
    """The engines by name, one at a time."""
    source, threads = find_model(options.model), options.threads
    yield "torch", load_model(source)
    for name, int8 in (("onnx", False), ("onnx-int8", True)):
        export_onnx(source, folder / name, int8)
        yield name, OnnxClassifier.from_folder(folder / name, threads)


def feed_all(engine, wav):
    """Delays, speed and memory of a whole recording."""
    stream, size = engine.stream(), round(CHUNK * timing.SAMPLE_RATE)
    delays, due, memory = [], [], []
    for start in range(0, len(wav), size):
        before = time.perf_counter()
        found = stream.feed(wav[start : start + size])
        delays.append(time.perf_counter() - before)
        if found:
            due.append(delays[-1])
        if start // size % 3_000 == 0:  # every five minutes
            memory.append(timing.resident())
    due = due or [float("nan")]  # there was no speech
    tenth = max(1, len(delays) // 10)
    return {
        "real_time_factor": sum(delays) / (len(wav) / timing.SAMPLE_RATE),
        "delay_median": statistics.median(delays),
        "delay_due_median": statistics.median(due),
        "delay_due_p95": np.quantile(due, 0.95).item(),
        "delay_most": max(delays),
        "first_tenth": statistics.mean(delays[:tenth]),
        "last_tenth": statistics.mean(delays[-tenth:]),
        "memory": memory,
    }


def largest_difference(engine, wav, rate, cuts):
    """Most by which log-probabilities of a stream differ from the file's."""
    choose, found = random.Random(rate), 0.0
    for _ in range(cuts):
        size = rate * choose.randrange(2, 75)
        samples = np.round(wav[:size] * 32_000).astype(np.int16)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.wav"
            soundfile.write(path, samples, rate)
            (of_file,) = engine([path])
        stream, rest = engine.stream(rate), samples
        while len(rest):
            cut = choose.choice((1, 160, 441, 8_000, 3 * rate))
            cut = choose.randint(1, cut)
            stream.feed(rest[:cut])
            rest = rest[cut:]
        of_stream = stream.finish()[-1]
        found = max(
            found,
            *(
                abs(np.log(of_stream.scores[x]) - np.log(of_file.scores[x]))
                for x in of_file.scores
            ),
        )
    return found


def show(results):
    """Print a table."""
    rows = []
    for name, result in results.items():
        hour = result["hour"]
        rows.append(
            [
                name,
                f"{hour['real_time_factor']:.4f}",
                *(
                    f"{1000 * hour[key]:.1f}"
                    for key in (
                        "delay_median",
                        "delay_due_median",
                        "delay_due_p95",
                        "delay_most",
                        "first_tenth",
                        "last_tenth",
                    )
                ),
                f"{hour['memory'][-1] - hour['memory'][:2][-1]:.1f}",
                f"{max(result['difference'].values()):.1e}",
            ]
        )
    headings = "engine, real-time factor, ms a chunk, with a prediction, p95, "
    headings += "most, first tenth, last tenth, MB after 5 min, difference"
    timing.table(headings.split(", "), rows)


if __name__ == "__main__":
    main()

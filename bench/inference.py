#!/usr/bin/env python3
"""Speed of a prediction, compared with alternatives.

Clips a second, real-time factor and peak memory at batch 1 and 16, from
samples in memory to the answer: features included, reading a file not. The
same encoder weights everywhere; ours and its peers take turns clip by clip.

> python bench/inference.py --whisper openai/whisper-base --wavs DIR

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import json
import subprocess
import sys

import timing
from contestants import CONTESTANTS, enter

BATCH = 16


def main(arguments=None):
    parser = timing.parser(__doc__.partition("\n")[0])
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[contestant.name for contestant in CONTESTANTS],
        help="contestants; default: all that are installed",
    )
    parser.add_argument(
        "--skip-memory", action="store_true", help="measure times alone"
    )
    # Set by ourselves: memory is measured in a process for each contestant.
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        print(json.dumps(memory(options)))
        return
    about = timing.start(options)
    results = measure(options)
    if not options.skip_memory:
        for name, result in results.items():
            result["memory"] = ask_memory(options, name)
    show(results)
    timing.write(options, about, results)


def measure(options):
    """{name: {batch: summary of the seconds a clip}}."""
    clips = timing.make_clips(options.clips, options.wavs)
    contestants = enter(options.whisper, options.threads, options.only)
    seconds = sum(map(len, clips)) / timing.SAMPLE_RATE
    facts = {"clips": len(clips), "seconds_of_audio": seconds}
    results = {name: dict(facts) for name in contestants}
    for size in (1, BATCH):
        times = timing.alternate(
            contestants, batches(clips, size), options.repeats
        )
        for name, measured in times.items():
            results[name][size] = measured.summary(per=len(clips))
    return results


def batches(clips, size):
    """Lists of ``size`` clips of like length."""
    clips = sorted(clips, key=len)
    return [clips[i : i + size] for i in range(0, len(clips), size)]


def ask_memory(options, name):
    """What ``memory`` says in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name]
    for option in ("whisper", "wavs", "clips", "threads"):
        value = getattr(options, option)
        command += [] if value is None else [f"--{option}", str(value)]
    printed = subprocess.run(
        command, capture_output=True, check=True, text=True
    )
    return json.loads(printed.stdout.splitlines()[-1])


def memory(options):
    """Memory [MB] once the model is there, and the most above it at work."""
    timing.start(options)
    clips = timing.make_clips(options.clips, options.wavs)
    name = options.memory_of
    contestant = enter(options.whisper, options.threads, [name])[name]
    loaded = timing.resident()

    def answer(size):
        for batch in batches(clips, size):
            contestant(batch)

    peaks = {
        f"batch {b}": timing.peak_over(loaded, answer, b) for b in (1, BATCH)
    }
    return {"loaded": loaded, **peaks}


def show(results):
    """One table a batch size: best first."""
    for size in (1, BATCH):
        by_time = sorted(
            results, key=lambda name: results[name][size]["median"]
        )
        print(f"batch {size}; times in ms a clip, median (least to most)")
        timing.table(
            [
                "",
                "ms",
                "CPU ms",
                "clips/s",
                "x real time",
                "times qieemo's",
                "MB",
            ],
            [row(results, name, size) for name in by_time],
        )


def row(results, name, size):
    result, summary = results[name], results[name][size]
    ours = results.get("qieemo", result)[size]["median"]
    mean = result["seconds_of_audio"] / result["clips"]
    peak = result.get("memory", {}).get(f"batch {size}")
    return [
        name,
        timing.milliseconds(summary),
        f"{1000 * summary['cpu_median']:.1f}",
        f"{1 / summary['median']:.1f}",
        f"{mean / summary['median']:.0f}",
        f"{summary['median'] / ours:.2f}",
        "" if peak is None else f"{peak:.0f}",
    ]


if __name__ == "__main__":
    main()

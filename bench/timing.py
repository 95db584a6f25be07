"""Shared parts of the measurements: clips, clocks, memory, tables.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import random
import statistics
import sys
import time
from pathlib import Path

import torch

from qieemo_sb.audio import read_audio
from qieemo_sb.frames import SAMPLE_RATE

# Utterances of IEMOCAP: lognormal, mean 4.55 s, 95 % below 11.1 s.
MEDIAN, SIGMA, SHORTEST, LONGEST = 3.58, 0.692, 0.59, 34.14


def parser(what, whisper=True):
    """Options that every measurement has; not all need a Whisper."""
    parser = argparse.ArgumentParser(description=what, allow_abbrev=False)
    text = "a Whisper: a local folder in Hugging Face format, or a hub id"
    if whisper:
        parser.add_argument("--whisper", required=True, help=text)
    parser.add_argument("--wavs", help="folder of real speech; without: noise")
    parser.add_argument("--clips", type=int, default=16, help="how many")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="default: all cores"
    )
    parser.add_argument("--json", help="file for the results")
    return parser


def iemocap_lengths(count):
    """Seconds of ``count`` clips: quantiles of IEMOCAP's lengths."""
    normal = statistics.NormalDist(0, SIGMA)
    ranks = [(i + 0.5) / count for i in range(count)]
    lengths = [MEDIAN * 2.718281828 ** normal.inv_cdf(rank) for rank in ranks]
    return [min(max(seconds, SHORTEST), LONGEST) for seconds in lengths]


def make_clips(count, wavs=None, seconds=None):
    """Waveforms [S] at 16 kHz of IEMOCAP's lengths, or of those given."""
    lengths = seconds or iemocap_lengths(count)
    sizes = [round(s * SAMPLE_RATE) for s in lengths]
    source = speech(wavs, sum(sizes)) if wavs else noise(sum(sizes))
    clips = list(source.split(sizes))
    random.Random(0).shuffle(clips)
    return clips


def noise(size):
    """[S] of it, loud and quiet by turns."""
    generator = torch.Generator().manual_seed(0)
    swell = torch.linspace(0, size / SAMPLE_RATE, size).sin()
    return 0.1 * torch.randn(size, generator=generator) * swell


def speech(folder, size):
    """[S] from the files of a folder, joined in an order of their own."""
    paths = sorted(p for p in Path(folder).rglob("*.*") if p.is_file())
    random.Random(0).shuffle(paths)
    pieces, found = [], 0
    while found < size:
        for path in paths:
            pieces.append(torch.from_numpy(read_audio(path)))
            found += len(pieces[-1])
            if found >= size:
                break
    return torch.cat(pieces)[:size]


def pad(clips):
    """Waveforms → [B, S] and lengths [B] in samples."""
    lengths = torch.tensor([len(clip) for clip in clips])
    return torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), lengths


def alternate(contestants, inputs, repeats):
    """Time contestants in turn on the same inputs, after one round to warm up.

    Returns {name: Times}. The machine's moods then meet all of them alike.
    """
    times = {name: Times() for name in contestants}
    for turn in range(repeats + 1):
        spent = dict.fromkeys(contestants, (0.0, 0.0))
        for item in inputs:
            for name, call in contestants.items():
                wall, cpu = timed(call, item)
                spent[name] = (spent[name][0] + wall, spent[name][1] + cpu)
        if turn > 0:
            for name, both in spent.items():
                times[name].add(*both)
    return times


def timed(call, *arguments):
    """Seconds on the wall and of processors that a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    call(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


class Times:
    """Repeated measurements of one thing."""

    def __init__(self):
        self.wall, self.cpu = [], []

    def add(self, wall, cpu):
        self.wall.append(wall)
        self.cpu.append(cpu)

    @property
    def median(self):
        return statistics.median(self.wall)

    def summary(self, per=1):
        """Median, least and most, divided by how many things were done."""
        return {
            "median": self.median / per,
            "least": min(self.wall) / per,
            "most": max(self.wall) / per,
            "cpu_median": statistics.median(self.cpu) / per,
        }


def milliseconds(summary):
    """``12.3 (11.9 to 14.0)``."""
    median, least, most = (
        f"{1000 * summary[key]:.1f}" for key in ("median", "least", "most")
    )
    return f"{median} ({least} to {most})"


def resident():
    """Memory [MB] that this process needs now; None where it cannot be told."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back
    return _status("VmRSS")


def peak_over(before, call, *arguments):
    """Most memory [MB] during a call, above ``before``."""
    if before is None:
        return None
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    call(*arguments)
    return _status("VmHWM") - before


def resident_of(process):
    """Memory [MB] that another process needs now, by its number."""
    return _status("VmRSS", process)


def cpu_of(process):
    """Seconds of processors that another process has used, by its number."""
    path = Path(f"/proc/{process}/stat")
    if not path.exists():  # no Linux
        return float("nan")
    used = path.read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def _status(key, process="self"):
    path = Path(f"/proc/{process}/status")
    if not path.exists():  # no Linux
        return None
    line = next(x for x in path.read_text().splitlines() if key in x)
    return int(line.split()[1]) * 1024 / 1e6


def start(options):
    """Set the threads; say on what the measurement runs."""
    torch.set_num_threads(options.threads)
    about = {
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "torch": torch.__version__,
    }
    for key, value in vars(options).items():
        if key in ("whisper", "wavs", "model") and value is not None:
            value = Path(value).name  # where it is kept is nobody's business
        if key != "json" and value is not None:
            about[key] = value
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    return about


def processor():
    """The processor's name and instructions."""
    path = Path("/proc/cpuinfo")
    name = platform.processor() or platform.machine()
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def table(headings, rows):
    """Print a table."""
    rows = [[str(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for i, row in enumerate(rows):
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
        if i == 0:
            print("  ".join("-" * width for width in widths))
    print()


def write(options, about, results):
    """Write results to the json file, if one is asked for."""
    if options.json:
        text = json.dumps({"about": about, "results": results}, indent=2)
        Path(options.json).write_text(text + "\n", encoding="utf-8")

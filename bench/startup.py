#!/usr/bin/env python3
"""Time from the start of a process to its first prediction, by step.

Starts Python anew for every repeat, which reports the time of each step; then
times whole commands, `qieemo predict` on the model and on its exports, with
`import torch` for comparison. The file is one of IEMOCAP's median length.

> python bench/startup.py --whisper openai/whisper-base --wavs DIR

Authors
 * The Qieemo-SB authors 2026
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile
import timing
from contestants import save_untrained

from qieemo_sb.frames import SAMPLE_RATE
from qieemo_sb.serving.onnx.export import export_onnx

CHILD = """
import json, sys, time
steps = {"python": time.time()}
import qieemo_sb
steps["import qieemo_sb"] = time.time()
import torch
torch.set_num_threads(int(sys.argv[3]))
steps["import torch"] = time.time()
from qieemo_sb import load_model
steps["import load_model"] = time.time()
classifier = load_model(sys.argv[1])
steps["load the model"] = time.time()
classifier(sys.argv[2])
steps["first answer"] = time.time()
classifier(sys.argv[2])
steps["second answer"] = time.time()
print(json.dumps(steps))
"""


def main(arguments=None):
    options = timing.parser(__doc__.partition("\n")[0]).parse_args(arguments)
    about = timing.start(options)
    with tempfile.TemporaryDirectory() as folder:
        model = save_untrained(options.whisper, Path(folder) / "model")
        wav = Path(folder) / "a.wav"
        clip = timing.make_clips(1, options.wavs, [timing.MEDIAN])[0]
        soundfile.write(wav, clip.numpy(), SAMPLE_RATE)
        exports = {
            name: export_onnx(model, Path(folder) / name, name == "int8")
            for name in ("float32", "int8")
        }
        runs = []
        for _ in range(options.repeats):
            steps = run(model, wav, options.threads)
            steps["command: import torch"] = command("-c", "import torch")
            steps["command: qieemo predict, model"] = predict(model, wav)
            for name, export in exports.items():
                label = f"command: qieemo predict, export ({name})"
                steps[label] = predict(export, wav)
            runs.append(steps)
    results = {
        step: {
            "median": statistics.median(run[step] for run in runs),
            "least": min(run[step] for run in runs),
            "most": max(run[step] for run in runs),
        }
        for step in runs[0]
    }
    timing.table(
        ["step", "ms, median (least to most)"],
        [[step, timing.milliseconds(x)] for step, x in results.items()],
    )
    timing.write(options, about, results)


def command(*arguments):
    """Seconds that a Python process takes from start to end."""
    before = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], capture_output=True, check=True
    )
    return time.perf_counter() - before


def predict(model, wav):
    """Seconds of ``qieemo predict``."""
    code = "import sys; from qieemo_sb.cli import main; sys.exit(main())"
    return command("-c", code, "predict", "--model", str(model), str(wav))


def run(model, wav, threads):
    """Seconds of each step of a new process."""
    command = [sys.executable, "-c", CHILD, str(model), str(wav), str(threads)]
    before = time.time()
    printed = subprocess.run(
        command, capture_output=True, check=True, text=True
    )
    moments = {"": before, **json.loads(printed.stdout.splitlines()[-1])}
    names = list(moments)
    steps = {
        name: moments[name] - moments[names[i]]
        for i, name in enumerate(names[1:])
    }
    steps["start to first answer"] = moments["first answer"] - before
    return steps


if __name__ == "__main__":
    main()

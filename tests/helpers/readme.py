"""The code blocks of README.md, and what its commands print."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import numpy as np
import soundfile
from clips import RATE, noise, sentence

from qieemo_sb.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
EXPORT = "exported"  # folder of the export that a command makes, in int8


def write_files(folder):
    """Write the files that README.md names → folder."""
    (folder / "pretrained").symlink_to(ROOT / "pretrained")
    (folder / "ann").mkdir()
    (folder / "recordings").mkdir()
    names = ["speech.wav", *(f"ann/{i}.wav" for i in range(1, 5))]
    names += ["recordings/a.flac", "talk.wav"]
    for i, name in enumerate(names):
        speech = np.concatenate([sentence(), noise(0.5, seed=i)])
        soundfile.write(folder / name, speech, RATE)
    return folder


def run_commands():
    """Run each ``qieemo`` of README.md here → [(exit code, its output)]."""
    lines = "".join(code for language, code in BLOCKS if language == "sh")
    results = []
    for line in lines.splitlines():
        if line.startswith("qieemo "):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                code = main(shlex.split(line, comments=True)[1:])
            results.append((code, printed.getvalue()))
    return results

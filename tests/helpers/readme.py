"""The code blocks of README.md and docs/, run as a reader runs them."""

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from clips import RATE, noise, sentence

from qieemo_sb.cli import main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
NOTES = ROOT / "docs/upstream-issues.md"  # which has a test of its own
DOCS = sorted({*(ROOT / "docs").glob("*.md")} - {NOTES})
EXPORT = "exported"  # folder of the export that a command makes, in int8
BLOCK = re.compile(r"^```(\w+)(.*)\n((?:.*\n)*?)```$", re.MULTILINE)


def write_files(folder):
    """Write the files that the pages name → folder."""
    from sounds import encode

    (folder / "pretrained").symlink_to(ROOT / "pretrained")
    (folder / "ann").mkdir()
    (folder / "recordings").mkdir()
    names = ["speech.wav", *(f"ann/{i}.wav" for i in range(1, 5))]
    for i, name in enumerate([*names, "recordings/a.flac"]):
        speech = np.concatenate([sentence(), noise(0.5, seed=i)])
        soundfile.write(folder / name, speech, RATE)
    talk = np.concatenate([sentence(), np.zeros(RATE), sentence()])
    encode(folder / "talk.mp4", talk.astype(np.float32), RATE, "aac")
    turns = [("ann", 0, 1.5), ("bob", 2.5, 1.5)]
    lines = [
        f"SPEAKER talk 1 {start} {length} <NA> <NA> {name} <NA> <NA>\n"
        for name, start, length in turns
    ]
    (folder / "talk.rttm").write_text("".join(lines))
    return folder


def blocks(page):
    """Language and code of the blocks that run as they are.

    The title of another says what it needs.
    """
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(name, code) for name, title, code in found if "needs" not in title]


def commands(page):
    """Lines of a page's shell blocks, continued ones as one."""
    code = "".join(code for name, code in blocks(page) if name == "sh")
    return code.replace("\\\n", " ").splitlines()


def run(page, server=""):
    """Run a page here, from top to bottom → [(command, its output)].

    Python goes on where the block before ended; of shell commands, ``qieemo``
    and ``curl`` are run alone. A page about a server calls the one named here.
    """
    names, results = {}, []
    for language, code in blocks(page):
        code = code.replace("127.0.0.1:8000", server or "127.0.0.1:8000")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if language == "python":
                exec(compile(code, page.name, "exec"), names)
                results.append((code, printed.getvalue()))
        lines = code.splitlines() if language == "sh" else []
        for line in lines:
            if line.startswith("qieemo "):
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    status = main(shlex.split(line, comments=True)[1:])
                assert status == 0, f"{page.name}: {line}"
                results.append((line, printed.getvalue()))
            elif line.startswith("curl "):
                command = [*shlex.split(line), "--silent", "--fail"]
                results.append((line, subprocess.check_output(command)))
    return results

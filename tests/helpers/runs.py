"""The recipes' train.py, run as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IEMOCAP = ROOT / "recipes/IEMOCAP/qieemo"


def start(recipe, *arguments, script="train.py", **environment):
    """Start ``python train.py ARGUMENTS`` in a recipe's folder."""
    return subprocess.Popen(
        [sys.executable, script, *map(str, arguments)],
        cwd=recipe,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(recipe, *arguments, script="train.py"):
    """Run train.py to its end → (exit code, everything that it printed)."""
    process = start(recipe, *arguments, script=script)
    printed, _ = process.communicate()
    return process.returncode, printed


def demo(corpus, output, epochs=2):
    """Arguments of a short run of the demo."""
    return [
        "hparams/demo.yaml",
        f"--data_folder={corpus}",
        f"--output_folder={output}",
        f"--number_of_epochs={epochs}",
        "--make_corpus=null",
        "--noprogressbar",
    ]

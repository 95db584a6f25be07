"""The recipes' train.py, run as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
IEMOCAP = ROOT / "recipes/IEMOCAP/qieemo"
RAVDESS = ROOT / "recipes/RAVDESS/qieemo"
SYNTHETIC = ROOT / "recipes/Synthetic/qieemo"


TORCHRUN = (
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node=2",
)


def start(recipe, *arguments, script="train.py", launcher=(), **environment):
    """Start ``python train.py ARGUMENTS`` in a recipe's folder."""
    return subprocess.Popen(
        [sys.executable, *launcher, script, *map(str, arguments)],
        cwd=recipe,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(recipe, *arguments, script="train.py", **options):
    """Run train.py to its end → (exit code, everything that it printed)."""
    process = start(recipe, *arguments, script=script, **options)
    printed, _ = process.communicate()
    return process.returncode, printed


def stop_in_epoch_two(process, output, how=signal.SIGKILL):
    """Send a signal to a run once epoch 1 is saved and epoch 2 goes on."""
    log = output / "train_log.txt"
    while not (log.exists() and list(output.glob("save/CKPT*/CKPT.yaml"))):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    time.sleep(0.3)  # of the second that it lasts
    process.send_signal(how)
    process.communicate()
    assert process.returncode != 0
    assert not (output / "metrics.json").exists()


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

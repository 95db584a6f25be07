"""The recipes' scripts, run as a user runs them.

A script runs in a process of a fork server that has imported torch and
SpeechBrain before: the same as ``python train.py``, some seconds sooner.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from dying import die

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
KILL = (signal.SIGKILL, 2, 3)  # in the third step of the second epoch

os.environ["HF_HUB_OFFLINE"] = "1"
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "speechbrain",
        "transformers.models.whisper.modeling_whisper",
        "qieemo_sb.evaluation.plots",
        "qieemo_sb.evaluation.scores",
        "qieemo_sb.evaluation.adaptation",
        "qieemo_sb.training.run",
        "qieemo_sb.training.data",
        "qieemo_sb.training.ppg",
    ]
)


def train(recipe, *arguments, script="train.py", launcher=(), killed=None):
    """Run ``python train.py ARGUMENTS`` → (exit code, all that it printed).

    ``launcher`` stands between ``python`` and the script; ``killed`` is a
    signal, and the epoch and step in which the script gets it.
    """
    arguments = list(map(str, arguments))
    if launcher:
        done = subprocess.run(
            [sys.executable, *launcher, script, *arguments],
            cwd=recipe,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        process = _SERVER.Process(
            target=_run, args=(str(recipe), script, arguments, log.name, killed)
        )
        process.start()
        process.join()
        return process.exitcode, log.read()


def _run(recipe, script, arguments, log, killed):
    """Run a script in this process, which prints to a file."""
    printed = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(printed, number)
    sys.stdout.reconfigure(line_buffering=True)
    multiprocessing.set_start_method("fork", force=True)  # as it was
    os.chdir(recipe)
    sys.argv = [script, *arguments]
    sys.path.insert(0, recipe)
    if killed:
        die(*killed)
    runpy.run_path(script, run_name="__main__")


def small(corpus, whisper, output, *options, epochs=2):
    """Arguments of a short run on the small corpus."""
    return [
        "hparams/qieemo.yaml",
        f"--data_folder={corpus}",
        f"--whisper_source={whisper}",
        f"--output_folder={output}",
        f"--cache_folder={corpus.parent / 'cache'}",
        f"--prepare={{expected_counts: {corpus / 'expected_counts.json'}}}",
        f"--number_of_epochs={epochs}",
        "--fold=5",
        "--emotional_blocks=[1, 2]",
        "--noprogressbar",
        *options,
    ]


# All that needs audio: an encoder that trains, CTC, other speeds.
TUNED = (
    "--trainable_above=0",
    "--lr_encoder=0.001",
    "--ctc_weight=1.0",
    "--crop_seconds=null",
    "--speed_perturbation=True",
)


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

"""The recipes' scripts, run as a user runs them."""

import functools
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path

import torch.distributed.run
from forks import FORKS, spare_imports

from qieemo_sb.training.brain import QieemoBrain

ROOT = Path(__file__).parents[2]
IEMOCAP = ROOT / "recipes/IEMOCAP/qieemo"
RAVDESS = ROOT / "recipes/RAVDESS/qieemo"
MULTI = ROOT / "recipes/MultiCorpus/qieemo"
SYNTHETIC = ROOT / "recipes/Synthetic/qieemo"
# Options of torchrun; the last two spare its processes the imports.
TORCHRUN = (
    "--standalone",
    "--nproc_per_node=2",
    "--run-path",
    "--start-method=fork",
)

os.environ["HF_HUB_OFFLINE"] = "1"


def train(recipe, *arguments, script="train.py", torchrun=(), before=None):
    """Run ``python train.py ARGUMENTS`` → (exit code, all that it printed).

    ``torchrun`` has the options of that command, if it is to run the script.
    ``before`` is a function that its process calls first.
    """
    arguments = [*torchrun, str(script), *map(str, arguments)]
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        process = FORKS.Process(
            target=_run,
            args=(str(recipe), arguments, bool(torchrun), log.name, before),
        )
        process.start()
        process.join()
        return process.exitcode, log.read()


def _run(recipe, arguments, distributed, log, before):
    """Run a script in this process, which prints to a file."""
    spare_imports()
    printed = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(printed, number)
    sys.stdout.reconfigure(line_buffering=True)
    multiprocessing.set_start_method("fork", force=True)  # as it was
    os.chdir(recipe)
    sys.path.insert(0, recipe)
    if before:
        before()
    if distributed:
        torch.distributed.run.main(arguments)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def die(epoch, step):
    """Have this process, and its forks, killed before a step of an epoch."""
    inherited = QieemoBrain.on_fit_batch_start

    def on_fit_batch_start(self, *args):
        if (self.hparams.epoch_counter.current, self.step) == (epoch, step):
            os.kill(os.getpid(), signal.SIGKILL)
        inherited(self, *args)

    QieemoBrain.on_fit_batch_start = on_fit_batch_start


def show_graphs():
    """Print when torch compiles, and need no C++ compiler for it."""

    def show(graph, _):
        print("compiled a graph")
        return graph.forward

    torch.compile = functools.partial(torch.compile, backend=show)


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

"""Processes that have imported torch and SpeechBrain before they start.

They come from a fork server, of which a process has one: some seconds sooner
than a new Python, and otherwise the same.
"""

import gc
import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "speechbrain",
        "torch.distributed.run",
        "transformers.models.whisper.modeling_whisper",
        "qieemo_sb.evaluation.plots",
        "qieemo_sb.evaluation.scores",
        "qieemo_sb.evaluation.adaptation",
        "qieemo_sb.serving.speechbrain",
        "qieemo_sb.training.run",
        "qieemo_sb.training.data",
        "qieemo_sb.training.ppg",
    ]
)


def spare_imports():
    """Never look for garbage among what has been imported.

    There are a million objects, and looking takes a fifth of all the time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)

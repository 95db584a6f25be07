"""Run a script that is killed in the middle of its training.

python dying.py SIGNAL EPOCH STEP SCRIPT ARGUMENTS
"""

import os
import runpy
import sys

from qieemo_sb.training.brain import QieemoBrain


def die(number, epoch, step):
    """Have this process killed before a step of an epoch is made."""
    inherited = QieemoBrain.on_fit_batch_start

    def on_fit_batch_start(self, *args):
        if (self.hparams.epoch_counter.current, self.step) == (epoch, step):
            os.kill(os.getpid(), number)
        inherited(self, *args)

    QieemoBrain.on_fit_batch_start = on_fit_batch_start


if __name__ == "__main__":
    die(*map(int, sys.argv[1:4]))
    sys.argv = sys.argv[4:]
    sys.path[0] = os.getcwd()
    runpy.run_path(sys.argv[0], run_name="__main__")

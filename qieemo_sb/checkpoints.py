"""Checkpoints that count once they are whole.

Authors
 * The Qieemo-SB authors 2026
"""

from pathlib import Path

from speechbrain.utils import checkpoints
from speechbrain.utils.distributed import main_process_only

PART = "part"  # what the file that makes a folder a checkpoint ends in, so far


class Checkpointer(checkpoints.Checkpointer):
    """SpeechBrain's, safe against a kill while it saves.

    A folder is a checkpoint as soon as its CKPT.yaml is there, which
    SpeechBrain writes first: a run that was killed while it saved could not be
    resumed. Here that file gets its name last.
    """

    # The other processes wait for all of it: a list of checkpoints that they
    # make before the name is there would differ from this process's list, and
    # each would wait for something else for ever.
    @main_process_only
    def save_checkpoint(self, *args, **kwargs) -> checkpoints.Checkpoint:
        """Save what is recoverable; see ``speechbrain``'s."""
        saved = super().save_checkpoint(*args, **kwargs)
        meta = Path(saved.path) / checkpoints.METAFNAME
        meta.with_suffix(f".{PART}").replace(meta)
        return saved

    def _save_checkpoint_metafile(self, fpath, *args, **kwargs):
        part = Path(fpath).with_suffix(f".{PART}")
        return super()._save_checkpoint_metafile(part, *args, **kwargs)

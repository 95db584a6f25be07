"""Checkpoints that count once they are whole, and what is kept in them."""

from pathlib import Path

from speechbrain.utils import checkpoints
from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.epoch_loop import EpochCounterWithStopper

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


@checkpoints.register_checkpoint_hooks
class EpochCounter(EpochCounterWithStopper):
    """SpeechBrain's, which remembers the best score when a run goes on.

    SpeechBrain's keeps the number of the epoch alone, and where more is better
    takes an equal score for a gain, so that a plateau never ends.

    Arguments
    ---------
    limit : int
        Most epochs; 0 leaves the probe that training starts from.
    limit_to_stop : int or None
        Epochs without a gain after which to stop; None: never.
    direction : str
        "max" or "min", what a gain is.

    Raises
    ------
    ValueError
        Less than no epoch, or another direction.

    Example
    -------
    >>> counter = EpochCounter(limit=9, limit_to_stop=2, direction="max")
    >>> for epoch in counter:
    ...     counter.update_metric(0.5)
    >>> epoch, counter.best_limit
    (3, 1)
    """

    def __init__(self, limit: int, limit_to_stop: int | None, direction: str):
        if limit < 0:
            raise ValueError(f"number_of_epochs is {limit}: 0 is the least.")
        patience = limit if limit_to_stop is None else limit_to_stop
        super().__init__(limit, patience, 0, direction)

    best_score: float

    def update_metric(self, current_metric: float) -> None:
        """Take note of an epoch's score, once an epoch.

        Arguments
        ---------
        current_metric : float
            The score.
        """
        if self.sign * current_metric < self.sign * self.best_score:
            self.best_limit, self.best_score = self.current, current_metric
        self.should_stop = self._nothing_gained()

    def _nothing_gained(self):
        return self.current - self.best_limit >= self.limit_to_stop

    # SpeechBrain finds its hooks in the class itself, not in what it extends.
    @checkpoints.mark_as_saver
    def _save(self, path):
        super()._save(path)

    @checkpoints.mark_as_loader
    @checkpoints.mark_as_transfer
    def _recover(self, path, end_of_epoch=True):
        super()._recover(path, end_of_epoch)
        # Patience may be more now than when the run was stopped.
        self.should_stop = self._nothing_gained()

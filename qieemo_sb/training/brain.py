"""The Brain that both stages of training extend."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.utils.distributed import ddp_broadcast, get_rank
from tqdm import tqdm

from qieemo_sb.frames import FRAME_SECONDS, SAMPLE_RATE, absolute_lengths
from qieemo_sb.training.augment import random_crop


class QieemoBrain(sb.Brain):
    """Reproducible training of lobes and, at its own rate, of an encoder.

    A child writes ``compute_forward``, ``compute_objectives`` and
    ``on_stage_end``, and names the statistic that chooses the best epoch. Of
    its hparams, this class uses ``model``, ``seed``, ``epoch_counter``,
    ``train_logger``, ``output_folder``, ``encoder_opt_class``,
    ``lr_annealing`` and ``encoder_lr_annealing``.

    Arguments
    ---------
    cache : EncoderCache or None
        Of a frozen encoder's output; None: the encoder is run on audio.
    *args, **kwargs
        As of ``speechbrain.Brain``.
    """

    best: Mapping[str, str]  # {"max_key": "UA"}, {"min_key": "CER"}

    def __init__(self, *args, cache=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.cache = cache

    def inputs(
        self,
        batch: Any,
        crop: float | None = None,
        augment: Callable | None = None,
    ) -> dict[str, Any]:
        """Arguments of the model for a batch of waveforms or cached frames.

        Arguments
        ---------
        batch : PaddedBatch
            With ``sig``, or with ``frames``: padded, or a list to crop.
        crop : float or None
            Seconds of a random stretch of each utterance; None: all of it.
        augment : callable or None
            Waveforms and relative lengths → others.

        Returns
        -------
        dict
        """
        if self.cache is None:
            wavs, relative = batch.sig
            if augment:
                wavs, relative = augment(wavs, relative)
            lengths = absolute_lengths(relative, wavs.shape[1])
            if crop:
                pairs = zip(wavs, lengths.tolist(), strict=True)
                rows = [wav[:size] for wav, size in pairs]
                wavs, lengths = random_crop(rows, round(crop * SAMPLE_RATE))
            return {"wavs": wavs, "lengths": lengths}
        if crop:
            size = round(crop / FRAME_SECONDS)
            frames, lengths = random_crop(batch.frames, size)
        else:
            frames, relative = batch.frames
            lengths = absolute_lengths(relative, frames.shape[1])
        frames, lengths = frames.to(self.device), lengths.to(self.device)
        return {"encoded": self.cache.output(frames, lengths)}

    @property
    def results_folder(self) -> Path:
        """Folder of the results; a trial (--debug) replaces none."""
        folder = Path(self.hparams.output_folder)
        trial = self.debug and (folder / "metrics.json").exists()
        return folder / "debug" if trial else folder

    @torch.no_grad()
    def outputs(self, clips: Any, **options: Any) -> Iterator[tuple]:
        """Run the model on whole clips, in eval mode.

        Arguments
        ---------
        clips : DynamicItemDataset
            A batch of it is enough for a trial.
        **options
            Of its data loader.

        Yields
        ------
        tuple
            Batch, and what ``compute_forward`` returns for it.
        """
        self.modules.eval()
        loader = self.make_dataloader(clips, sb.Stage.TEST, **options)
        for batch in tqdm(loader, "Embeddings", disable=self.noprogressbar):
            yield batch, self.compute_forward(batch, sb.Stage.TEST)
            if self.debug:
                break

    def ctc_loss(self, predictions: Any, tokens: Any) -> torch.Tensor:
        """CTC loss of a PPG on transcripts.

        Arguments
        ---------
        predictions : QieemoOutput or PPGOutput
            With a ``ppg``.
        tokens : PaddedData
            Indices [B, N] and relative lengths [B].

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        ppg = predictions.ppg
        relative = predictions.lengths / ppg.shape[1]
        return sb.nnet.losses.ctc_loss(
            ppg, tokens.data, relative, tokens.lengths, blank_index=0
        )

    def on_fit_batch_start(self, batch, should_step):
        """Make random numbers depend on seed, epoch and step alone.

        A run that was killed then goes on exactly as if it had not been.
        """
        epoch = self.hparams.epoch_counter.current
        place = (self.hparams.seed, epoch, self.step, get_rank() or 0)
        seed = random.Random(repr(place)).getrandbits(32)
        random.seed(seed)
        torch.manual_seed(seed)

    def on_stage_start(self, stage, epoch=None):
        """Set the learning rates of an epoch."""
        if stage != sb.Stage.TRAIN:
            return
        # Not after an epoch for the next: more epochs change what comes next.
        schedules = {
            "lobes": self.hparams.lr_annealing,
            "encoder": self.hparams.encoder_lr_annealing,
        }
        for name, optimizer in self.optimizers_dict.items():
            update_learning_rate(optimizer, schedules[name](epoch)[0])

    def end_epoch(
        self, epoch: int, train_loss: float | None, stats: dict[str, float]
    ) -> None:
        """Log an epoch, decide if to go on, and save a checkpoint.

        Arguments
        ---------
        epoch : int
            Counted from 1; 0 is what training starts from.
        train_loss : float or None
            Mean over the epoch; None for epoch 0.
        stats : dict
            Of the validation.
        """
        # Every process tests everything; all must decide alike when to stop.
        stats = ddp_broadcast(stats)
        place, train_stats = {"epoch": epoch}, None
        if train_loss is not None:
            place["lr"] = self.hparams.lr_annealing(epoch)[0]
            train_stats = {"loss": train_loss}
        self.hparams.train_logger.log_stats(place, train_stats, stats)
        meta = {**stats, "epoch": epoch}
        ((kind, name),) = self.best.items()
        # Before saving: a resumed run has to know how long nothing improved.
        self.hparams.epoch_counter.update_metric(meta[name])
        self.checkpointer.save_and_keep_only(meta=meta, **{f"{kind}s": [name]})

    def end_test(self, stats: dict[str, float]) -> None:
        """Log the test and the epoch whose checkpoint was tested.

        Arguments
        ---------
        stats : dict
            Of the test.
        """
        tested = self.checkpointer.find_checkpoint(**self.best)
        self.hparams.train_logger.log_stats(
            {"best epoch": tested.meta["epoch"]},
            test_stats=ddp_broadcast(stats),
        )

    def init_optimizers(self):
        """Make one optimizer for the lobes, one for the encoder if it trains.

        Brain clips the gradients of an optimizer's first group only.
        """
        make_optimizer = self.hparams.encoder_opt_class
        makers = {"lobes": self.opt_class, "encoder": make_optimizer}
        self.optimizers_dict = {}
        for name, make_optimizer in makers.items():
            part = getattr(self.hparams.model, name)
            trained = [p for p in part.parameters() if p.requires_grad]
            if trained:
                optimizer = self.optimizers_dict[name] = make_optimizer(trained)
                self.checkpointer.add_recoverable(name, part)
                self.checkpointer.add_recoverable(f"{name}_opt", optimizer)

    def _should_save_intra_epoch_ckpt(self, *since):
        """Save when SpeechBrain would, but not between a step's batches.

        No checkpoint holds the gradients that they have added up so far.
        """
        complete = self.step % self.grad_accumulation_factor == 0
        return complete and super()._should_save_intra_epoch_ckpt(*since)

    def _compile(self):
        """Compile the encoder's blocks, not every module as SpeechBrain does.

        Batches of the lobes differ in length, and gain nothing by it.
        """
        if self.compile:
            self.hparams.model.encoder.compile_blocks(mode=self.compile_mode)

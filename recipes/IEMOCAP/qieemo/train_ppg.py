#!/usr/bin/env python3
"""Recipe for training Qieemo's PPG head: stage 1, speech to text.

A CTC head on the last block of an ASR encoder learns to read; its phonetic
posteriorgram is one of the two views of speech that stage 2 (train.py) fuses.

To run this recipe on LibriSpeech's or IEMOCAP's transcripts, or on your own
manifests:
> python train_ppg.py hparams/ppg.yaml --data_folder DIR
> python train_ppg.py hparams/ppg.yaml --corpus iemocap --data_folder DIR
> python train_ppg.py hparams/ppg.yaml --corpus manifests --data_folder DIR

Without any corpus, in recipes/Synthetic/qieemo, on speech by machines:
> python train_ppg.py hparams/ppg.yaml

Stage 2 takes the model folder that it leaves:
> python train.py hparams/qieemo.yaml --data_folder DIR \
>     --ppg_source results/ppg/librispeech/1986/model

Authors
 * The Qieemo-SB authors 2026
"""

import json
import logging
import random
import sys
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from qieemo_sb.audio import read_audio
from qieemo_sb.corpora.manifest import read_manifest, replacing
from qieemo_sb.errors import (
    AudioError,
    CacheError,
    CorpusError,
    ModelFolderError,
    TokenError,
)
from qieemo_sb.evaluation.model_card import ppg_card
from qieemo_sb.frames import SAMPLE_RATE, absolute_lengths, num_frames
from qieemo_sb.lobes.ppg import greedy
from qieemo_sb.lobes.tokens import transcript_problem
from qieemo_sb.model import PPGModel
from qieemo_sb.serving.folder import save_model
from qieemo_sb.training.cache import EncoderCache
from qieemo_sb.training.hparams import resolve
from qieemo_sb.training.ppg import check_tokens
from qieemo_sb.training.processes import leave_process_group
from qieemo_sb.training.resume import keep_data, keep_options
from qieemo_sb.training.sampler import loader_options

import speechbrain as sb
from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.utils.distributed import (
    ddp_broadcast,
    get_rank,
    if_main_process,
    infer_device,
    run_on_main,
)

logger = logging.getLogger(__name__)


class ReadingBrain(sb.Brain):
    """Trains the PPG head, and what of the encoder is to train, by CTC."""

    def compute_forward(self, batch, stage):
        """Waveforms, or what a frozen encoder said of them → QieemoOutput."""
        batch = batch.to(self.device)
        cache = self.hparams.cache
        if cache is None:
            wavs, relative = batch.sig
            return self.modules.reader(
                wavs, absolute_lengths(relative, wavs.shape[1])
            )
        frames, relative = batch.frames
        lengths = absolute_lengths(relative, frames.shape[1])
        return self.modules.reader(encoded=cache.output(frames, lengths))

    def compute_objectives(self, predictions, batch, stage):
        """CTC loss."""
        tokens, token_lens = batch.tokens
        ppg, lengths = predictions.ppg, predictions.lengths
        if stage != sb.Stage.TRAIN:
            self.keep_score(batch, greedy(ppg, lengths))
        return sb.nnet.losses.ctc_loss(
            ppg, tokens, lengths / ppg.shape[1], token_lens, blank_index=0
        )

    def keep_score(self, batch, indices):
        """Compare what was read with what was said."""
        tokenizer = self.hparams.tokenizer
        read = [tokenizer.decode_ids(row) for row in indices]
        said = [tokenizer.decode_ids(row) for row in batch.token_list]
        self.cer.append(batch.id, map(list, read), map(list, said))
        words = [[text.split() for text in texts] for texts in (read, said)]
        self.wer.append(batch.id, *words)

    def on_fit_batch_start(self, batch, should_step):
        """Make chance a function of seed, epoch and step alone.

        A run that was killed then goes on exactly as if it had not been.
        """
        epoch = self.hparams.epoch_counter.current
        place = (self.hparams.seed, epoch, self.step, get_rank() or 0)
        seed = random.Random(repr(place)).getrandbits(32)
        random.seed(seed)
        torch.manual_seed(seed)

    def on_stage_start(self, stage, epoch=None):
        """Start fresh scores; let the encoder learn after the warm-up."""
        if stage != sb.Stage.TRAIN:
            self.cer = self.hparams.error_rate_computer()
            self.wer = self.hparams.error_rate_computer()
            return
        # Not after an epoch for the next: more epochs change what comes next.
        schedules = {
            "head": self.hparams.lr_annealing,
            "encoder": self.hparams.encoder_lr_annealing,
        }
        for name, optimizer in self.optimizers_dict.items():
            update_learning_rate(optimizer, schedules[name](epoch)[0])
        if "encoder" in self.optimizers_dict:
            learns = epoch > self.hparams.warmup_epochs
            for group in self.encoder_optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.requires_grad_(learns)

    def _should_save_intra_epoch_ckpt(self, *since):
        """Save when SpeechBrain would, but not between a step's batches.

        What they have added to the gradients so far is in no checkpoint.
        """
        whole = self.step % self.grad_accumulation_factor == 0
        return whole and super()._should_save_intra_epoch_ckpt(*since)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log an epoch, keep the best model, write the results."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        stats = {
            "loss": stage_loss,
            "CER": self.cer.summarize("error_rate"),
            "WER": self.wer.summarize("error_rate"),
        }
        # Every process tests everything; all must decide alike when to stop.
        stats = ddp_broadcast(stats)
        if stage == sb.Stage.VALID:
            self.end_epoch(epoch, stats)
        else:
            tested = self.checkpointer.find_checkpoint(min_key="CER")
            self.hparams.train_logger.log_stats(
                {"best epoch": tested.meta["epoch"]}, test_stats=stats
            )
            if if_main_process():
                write_results(self.hparams, self.cer, self.wer)

    def end_epoch(self, epoch, stats):
        """Log, decide whether to stop, and save, in this order."""
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": self.hparams.lr_annealing(epoch)[0]},
            train_stats={"loss": self.train_loss},
            valid_stats=stats,
        )
        # Before saving: a resumed run has to know how long nothing got better.
        self.hparams.epoch_counter.update_metric(stats["CER"])
        meta = {**stats, "epoch": epoch}
        self.checkpointer.save_and_keep_only(meta=meta, min_keys=["CER"])

    def _compile(self):
        """Compile what gains by it, not every module as SpeechBrain does."""
        if self.compile:
            encoder = self.hparams.model.encoder
            encoder.compile_blocks(mode=self.compile_mode)

    def init_optimizers(self):
        """One optimizer for the head, one for what trains of the encoder."""
        model = self.hparams.model
        self.optimizer = self.opt_class(model.ppg_head.parameters())
        self.optimizers_dict = {"head": self.optimizer}
        trainable = [p for p in model.encoder.parameters() if p.requires_grad]
        if trainable:
            self.encoder_optimizer = self.hparams.encoder_opt_class(trainable)
            self.optimizers_dict["encoder"] = self.encoder_optimizer
        for name, optimizer in self.optimizers_dict.items():
            self.checkpointer.add_recoverable(f"{name}_opt", optimizer)


def write_results(hparams, cer, wer):
    """metrics.json, readings.txt and the bundle."""
    folder = Path(hparams.output_folder)
    metrics = {
        "character_error_rate": cer.summarize("error_rate") / 100,
        "word_error_rate": wer.summarize("error_rate") / 100,
        "num_utterances": len(cer.scores),
        "tokens": str(hparams.tokenizer),
        "corpus": hparams.corpus,
        "seed": hparams.seed,
    }
    with replacing(folder / "metrics.json") as partial:
        partial.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    with replacing(folder / "readings.txt") as partial:
        with open(partial, "w", encoding="utf-8") as fout:
            wer.write_stats(fout)
    save_model(
        folder / "model",
        hparams.model,
        ppg_card(metrics),
        tokens=hparams.tokenizer,
    )


def dataio_prep(hparams):
    """Datasets of the three manifests, with tokens and audio.

    Arguments
    ---------
    hparams : dict
        Of the yaml; its tokenizer is fitted, and gets ``model`` and ``cache``.

    Returns
    -------
    dict
        "train", "valid" and "test" → DynamicItemDataset.
    """
    files = {
        split: hparams[f"{split}_annotation"]
        for split in ("train", "valid", "test")
    }
    for file in files.values():  # with --skip_prep they may be anyone's
        read_manifest(file, required=("wav", "length"))
    run_on_main(keep_data, args=[hparams["save_folder"], files])
    datasets = {
        split: sb.dataio.dataset.DynamicItemDataset.from_json(
            json_path=file,
            replacements={"data_root": hparams[f"{split}_folder"]},
        )
        for split, file in files.items()
    }
    tokenizer = hparams["tokenizer"]
    tokenizer.fit(e.get("wrd", "") for e in datasets["train"].data.values())
    run_on_main(check_tokens, args=[tokenizer, hparams["save_folder"]])
    datasets = alignable(hparams, datasets)
    hparams["model"] = PPGModel(
        encoder=hparams["encoder"],
        ppg_head=hparams["make_ppg_head"](
            hparams["encoder"].d_model, len(tokenizer)
        ),
    )
    hparams["cache"] = make_cache(hparams, datasets)
    cached = hparams["cache"] is not None

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("frames" if cached else "sig")
    def audio_pipeline(wav):
        """16 kHz mono, or what the frozen encoder said of it, [T, 1, D]."""
        return (
            hparams["cache"].load(wav)
            if cached
            else torch.from_numpy(read_audio(wav))
        )

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("token_list", "tokens")
    def token_pipeline(wrd):
        """Indices of the transcript's tokens."""
        token_list = tokenizer.encode_as_ids(wrd)
        yield token_list
        yield torch.tensor(token_list)

    for step in (audio_pipeline, token_pipeline):
        sb.dataio.dataset.add_dynamic_item(list(datasets.values()), step)
    outputs = ["id", "frames" if cached else "sig", "token_list", "tokens"]
    sb.dataio.dataset.set_output_keys(list(datasets.values()), outputs)
    return datasets


def alignable(hparams, datasets):
    """Datasets whose transcripts CTC can align; what cannot be is told."""
    problems = {split: {} for split in datasets}
    for split, dataset in datasets.items():
        for utt_id, entry in dataset.data.items():
            frames = num_frames(round(float(entry["length"]) * SAMPLE_RATE))
            problem = transcript_problem(
                hparams["tokenizer"], entry.get("wrd"), frames
            )
            if problem:
                problems[split][utt_id] = problem
    told = [
        f"  {split}, {utt_id}: {problem}"
        for split, found in problems.items()
        for utt_id, problem in found.items()
    ]
    if not told:
        return datasets
    heading = f"{len(told)} transcripts that CTC cannot align"
    if not hparams["leave_out_unalignable"]:
        raise CorpusError(
            f"{heading}:\n" + "\n".join(told) + "\nMend the manifests, or set "
            "leave_out_unalignable to True."
        )
    logger.warning("%s are left out:\n%s", heading, "\n".join(told))
    return {
        split: dataset.filtered_sorted(
            key_test={"id": lambda utt_id, s=split: utt_id not in problems[s]}
        )
        for split, dataset in datasets.items()
    }


def make_cache(hparams, datasets):
    """Compute a frozen encoder's last block, once for all epochs."""
    model = hparams["model"]
    if not (hparams["cache_folder"] and model.encoder.frozen):
        return None
    cache = EncoderCache(
        hparams["cache_folder"],
        model.encoder,
        model.blocks,
        hparams["cache_dtype"],
    )
    wavs = [
        entry["wav"]
        for dataset in datasets.values()
        for entry in dataset.data.values()
    ]
    run_on_main(cache.fill, args=[wavs])
    return cache


def main(hparams, run_opts):
    """Prepare, train, test."""
    if run_opts["jit"] or run_opts["jit_module_keys"]:
        sys.exit("\n--jit: TorchScript cannot compile Qieemo; use --compile.")
    if not hparams["skip_prep"]:
        # First: it needs data that may be missing, the other takes minutes.
        if hparams["prepare_test"]:
            run_on_main(hparams["prepare_test"])
        run_on_main(hparams["prepare"])
    # Where the Brain will be: the cache is filled before there is one.
    hparams["encoder"].to(run_opts["device"] or infer_device())
    datasets = dataio_prep(hparams)
    model = hparams["model"]
    hparams["checkpointer"].add_recoverable("ppg_head", model.ppg_head)
    if not model.encoder.frozen:
        hparams["checkpointer"].add_recoverable("encoder", model.encoder)
    brain = ReadingBrain(
        modules={"reader": model},
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    if hparams["warmup_epochs"] and not model.encoder.frozen:
        # Until then DDP must not wait for the encoder's gradients.
        brain.find_unused_parameters = True
    loaders = loader_options(
        datasets,
        hparams["dynamic_batch_sampler"],
        seed=hparams["seed"],
        num_workers=hparams["num_workers"],
    )
    brain.train_sampler = loaders["train"]["batch_sampler"]
    brain.fit(
        hparams["epoch_counter"],
        datasets["train"],
        datasets["valid"],
        train_loader_kwargs=loaders["train"],
        valid_loader_kwargs=loaders["valid"],
    )
    brain.evaluate(
        datasets["test"],
        min_key="CER",
        test_loader_kwargs=loaders["test"],
    )


# RECIPE BEGINS!
if __name__ == "__main__":
    # Reading command line arguments.
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])

    # Initialize ddp (useful only for multi-GPU DDP training).
    sb.utils.distributed.ddp_init_group(run_opts)

    # Load hyperparameters file with command-line overrides.
    try:
        resolve(hparams_file, overrides)  # says what is wrong in words
        with open(hparams_file, encoding="utf-8") as fin:
            hparams = load_hyperpyyaml(fin, overrides)
    except (ValueError, OSError) as error:  # parts that do not fit, or lack
        sys.exit(f"\n{error}")

    try:
        # First: a refused run leaves the one that is there as it was.
        run_on_main(
            keep_options,
            args=[hparams["save_folder"], hparams_file, overrides],
        )
        # Create experiment directory
        sb.create_experiment_directory(
            experiment_directory=hparams["output_folder"],
            hyperparams_to_save=hparams_file,
            overrides=overrides,
        )
        main(hparams, run_opts)
    except (
        AudioError,
        ModelFolderError,
        CacheError,
        CorpusError,
        TokenError,
    ) as error:
        sys.exit(f"\n{error}")
    leave_process_group()

#!/usr/bin/env python3
"""Recipe for training Qieemo, emotion recognition from audio alone.

An ASR encoder gives a phonetic posteriorgram (what is said) and emotional
features of its middle blocks (how it is said); MMF and CMA fuse them; a
classifier answers. See arXiv 2503.22687.

To run this recipe, do the following:
> python train.py hparams/qieemo.yaml --data_folder /path/to/IEMOCAP

Without IEMOCAP, on a small synthetic corpus:
> python train.py hparams/demo.yaml

On your own corpus:
> python train.py hparams/manifest.yaml --data_folder DIR --csv_file FILE

Authors
 * The Qieemo-SB authors 2026
"""

import pydoc
import random
import sys
from collections import Counter
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from qieemo_sb import plots
from qieemo_sb.audio import AudioError, read_audio
from qieemo_sb.augment import random_crop
from qieemo_sb.bundle import BundleError, save_bundle
from qieemo_sb.card import model_card
from qieemo_sb.corpora.utterance import CorpusError
from qieemo_sb.encoders.cache import EncoderCache
from qieemo_sb.frames import (
    FRAME_HOP,
    SAMPLE_RATE,
    absolute_lengths,
    num_frames,
)
from qieemo_sb.reader import check_tokens
from qieemo_sb.scoring import Scores, write_metrics, write_predictions
from qieemo_sb.tokens.base import TokenError, transcript_problem
from ruamel.yaml import YAML

import speechbrain as sb
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.utils.distributed import (
    ddp_broadcast,
    get_rank,
    if_main_process,
    infer_device,
    run_on_main,
)

LABEL_FILE = "label_encoder.txt"


class EmotionBrain(sb.Brain):
    """Trains Qieemo on emotion labels, and on transcripts beside them."""

    def compute_forward(self, batch, stage):
        """Waveforms, or what a frozen encoder said of them → QieemoOutput."""
        batch = batch.to(self.device)
        cache, training = self.hparams.cache, stage == sb.Stage.TRAIN
        x, relative = batch.sig if cache is None else batch.frames
        if training and self.hparams.speed_perturbation:
            x, relative = self.hparams.wav_augment(x, relative)
        lengths = absolute_lengths(relative, x.shape[1])
        if training and self.hparams.crop_seconds:
            rate = SAMPLE_RATE if cache is None else SAMPLE_RATE / FRAME_HOP
            size = round(self.hparams.crop_seconds * rate)
            x, lengths = random_crop(x, lengths, size)
        said = {"wavs": x, "wav_lens": lengths / x.shape[1]}
        if cache is not None:
            said = {"encoded": cache.output(x, lengths)}
        frame_wise = self.hparams.ctc_weight > 0  # only the PPG's loss asks
        return self.modules.qieemo(**said, frame_wise=frame_wise)

    def compute_objectives(self, predictions, batch, stage):
        """Emotion loss, plus the CTC loss of the PPG if it has a weight."""
        targets = batch.emo_encoded.data.squeeze(1)
        loss = sb.nnet.losses.nll_loss(
            predictions.log_probs,
            targets,
            weight=self.hparams.class_weights.to(self.device),
            label_smoothing=self.hparams.label_smoothing,
        )
        if self.hparams.ctc_weight > 0:
            tokens, token_lens = batch.tokens
            ppg = predictions.ppg
            loss = loss + self.hparams.ctc_weight * sb.nnet.losses.ctc_loss(
                ppg,
                tokens,
                predictions.lengths / ppg.shape[1],
                token_lens,
                blank_index=0,
            )
        if stage != sb.Stage.TRAIN:
            self.scores.append(batch.id, predictions.log_probs, targets)
        return loss

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
        """Start a fresh score sheet."""
        if stage != sb.Stage.TRAIN:
            self.scores = Scores()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log an epoch, keep the best model, write the results."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        summary = self.scores.summary(self.hparams.emotions)
        stats = {
            "loss": stage_loss,
            "WA": 100 * summary["weighted_accuracy"],
            "UA": 100 * summary["unweighted_accuracy"],
        }
        # Every process tests everything; all must decide alike when to stop.
        stats = ddp_broadcast(stats)
        if stage == sb.Stage.VALID:
            self._end_epoch(epoch, stats)
        else:
            self._end_test(summary, stats)

    def _compile(self):
        """Compile what gains by it, not every module as SpeechBrain does."""
        if self.compile:
            encoder = self.hparams.model.encoder
            encoder.compile_blocks(mode=self.compile_mode)

    def init_optimizers(self):
        """One optimizer for the lobes, one for what trains of the encoder."""
        model = self.hparams.model
        learning = [p for p in model.lobes.parameters() if p.requires_grad]
        self.optimizer = self.opt_class(learning)
        self.optimizers_dict = {"lobes": self.optimizer}
        trainable = [p for p in model.encoder.parameters() if p.requires_grad]
        if trainable:
            self.encoder_optimizer = self.hparams.encoder_opt_class(trainable)
            self.optimizers_dict["encoder"] = self.encoder_optimizer
        for name, optimizer in self.optimizers_dict.items():
            self.checkpointer.add_recoverable(f"{name}_opt", optimizer)

    def _end_epoch(self, epoch, stats):
        """Anneal, log, decide whether to stop, and save, in this order."""
        schedules = {
            "lobes": self.hparams.lr_annealing,
            "encoder": self.hparams.encoder_lr_annealing,
        }
        for name, optimizer in self.optimizers_dict.items():
            rate, new_rate = schedules[name](epoch)
            update_learning_rate(optimizer, new_rate)
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": self.hparams.lr_annealing(epoch)[0]},
            train_stats={"loss": self.train_loss},
            valid_stats=stats,
        )
        # Before saving: a resumed run has to know how long nothing got better.
        self.hparams.epoch_counter.update_metric(stats["UA"])
        self.checkpointer.save_and_keep_only(meta=stats, max_keys=["UA"])

    def _end_test(self, summary, stats):
        """Write what DESIGN promises that a run leaves."""
        self.hparams.train_logger.log_stats(
            {"best epoch": self.hparams.epoch_counter.best_limit},
            test_stats=stats,
        )
        if if_main_process():
            write_results(self.hparams, self.scores, summary)


def write_results(hparams, scores, summary):
    """metrics.json, predictions.csv, confusion.png and the bundle."""
    folder, emotions = Path(hparams.output_folder), hparams.emotions
    facts = {
        "corpus": hparams.corpus,
        "fold": hparams.fold,
        "seed": hparams.seed,
    }
    write_metrics(folder / "metrics.json", summary, **facts)
    write_predictions(folder / "predictions.csv", scores, emotions)
    plots.confusion(
        summary["confusion_matrix"],
        emotions,
        folder / "confusion.png",
        title="{corpus}, fold {fold}, seed {seed}".format(**facts),
    )
    save_bundle(
        folder / "model",
        hparams.model,
        hparams.label_encoder,
        model_card({**summary, **facts}),
        tokens=hparams.reader.tokens if hparams.reads else None,
    )


def dataio_prep(hparams):
    """Datasets of the three manifests, with labels, tokens and audio.

    Arguments
    ---------
    hparams : dict
        Of the yaml; gets ``label_encoder``, ``reads`` and ``cache``.

    Returns
    -------
    dict
        "train", "valid" and "test" → DynamicItemDataset.
    """
    datasets = {
        split: sb.dataio.dataset.DynamicItemDataset.from_json(
            json_path=hparams[f"{split}_annotation"],
            replacements={"data_root": hparams["data_folder"]},
        )
        for split in ("train", "valid", "test")
    }
    check_labels(hparams, datasets)
    hparams["label_encoder"] = make_label_encoder(hparams)
    hparams["reads"] = check_reader(hparams)
    hparams["cache"] = make_cache(hparams, datasets)
    outputs = add_pipelines(hparams, list(datasets.values()))
    sb.dataio.dataset.set_output_keys(list(datasets.values()), outputs)
    # Neighbours of like length: evaluation spends little on padding.
    for split in ("valid", "test"):
        datasets[split] = datasets[split].filtered_sorted(sort_key="length")
    return datasets


def add_pipelines(hparams, datasets):
    """Add the steps from a manifest's entry to what the Brain reads."""

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(wav):
        """Read a file as 16 kHz mono."""
        return read_audio(wav)

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("frames")
    def frames_pipeline(wav):
        """What the frozen encoder said of a file, [T, K, D]."""
        return hparams["cache"].load(wav)

    @sb.utils.data_pipeline.takes("emo")
    @sb.utils.data_pipeline.provides("emo_encoded")
    def label_pipeline(emo):
        """Index of the emotion."""
        return hparams["label_encoder"].encode_label_torch(emo)

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("tokens")
    def token_pipeline(wrd):
        """Indices of the transcript's tokens."""
        return torch.tensor(hparams["reader"].tokens.encode_as_ids(wrd))

    steps = [label_pipeline]
    cached = hparams["cache"] is not None
    steps.append(frames_pipeline if cached else audio_pipeline)
    outputs = ["id", "emo_encoded", "frames" if cached else "sig"]
    if hparams["ctc_weight"] > 0:
        if hparams["crop_seconds"]:
            raise CorpusError(
                "A crop does not say the whole transcript: set crop_seconds "
                "to null, or ctc_weight to 0."
            )
        check_transcripts(hparams["reader"].tokens, datasets)
        steps.append(token_pipeline)
        outputs.append("tokens")
    for step in steps:
        sb.dataio.dataset.add_dynamic_item(datasets, step)
    return outputs


def check_labels(hparams, datasets):
    """Raise CorpusError for labels that the yaml does not list."""
    problems = []
    for split, dataset in datasets.items():
        counts = Counter(entry["emo"] for entry in dataset.data.values())
        unknown = sorted(set(counts) - set(hparams["emotions"]))
        for label in unknown:
            example = next(
                utt_id
                for utt_id, entry in dataset.data.items()
                if entry["emo"] == label
            )
            problems.append(
                f"  {split}: '{label}' ({counts[label]} times, e.g. {example})"
            )
    if problems:
        raise CorpusError(
            f"Labels that are not in emotions {hparams['emotions']}:\n"
            + "\n".join(problems)
            + "\nAdd them to emotions in the yaml or drop the utterances."
        )


def check_reader(hparams):
    """Whether the PPG reads; refuses what cannot be meant."""
    model, weight = hparams["model"], hparams["ctc_weight"]
    if model.ppg_head is None:
        return False
    if weight > 0 and model.ppg_head.frozen and model.encoder.frozen:
        raise CorpusError(
            f"ctc_weight is {weight}, but neither the PPG head nor the encoder "
            "trains: set freeze_ppg to False, or ctc_weight to 0."
        )
    reads = weight > 0 or hparams["reader"].trained
    if reads:
        tokens, folder = hparams["reader"].tokens, hparams["save_folder"]
        run_on_main(check_tokens, args=[tokens, folder])
    return reads


def check_transcripts(tokens, datasets):
    """Raise CorpusError for transcripts that CTC cannot align."""
    problems = []
    for dataset in datasets:
        for utt_id, entry in dataset.data.items():
            frames = num_frames(round(float(entry["length"]) * SAMPLE_RATE))
            problem = transcript_problem(tokens, entry.get("wrd"), frames)
            if problem:
                problems.append(f"  {utt_id}: {problem}")
    if problems:
        raise CorpusError(
            f"{len(problems)} transcripts that CTC cannot align:\n"
            + "\n".join(problems)
            + "\nMend the manifests, or set ctc_weight to 0."
        )


def make_label_encoder(hparams):
    """Index → emotion in the yaml's order; a resumed run must have the same."""
    encoder = sb.dataio.encoder.CategoricalEncoder()
    encoder.update_from_iterable(hparams["emotions"], sequence_input=False)
    encoder.expect_len(len(hparams["emotions"]))
    run_on_main(keep_labels, args=[encoder, Path(hparams["save_folder"])])
    return encoder


def keep_labels(encoder, folder):
    """Save the emotions' indices, or compare them with those saved before."""
    path = folder / LABEL_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        encoder.save(path)
        return
    before = sb.dataio.encoder.CategoricalEncoder()
    before.load(path)
    if before.lab2ind != encoder.lab2ind:
        raise CorpusError(
            f"The checkpoints in {folder} know the emotions "
            f"{list(before.lab2ind)}, the yaml asks for "
            f"{list(encoder.lab2ind)}. Choose another output_folder."
        )


def make_cache(hparams, datasets):
    """Compute a frozen encoder's outputs, once for all epochs and folds."""
    model = hparams["model"]
    varying = hparams["speed_perturbation"] or hparams["spec_augmentation"]
    if not (hparams["cache_folder"] and model.encoder.frozen) or varying:
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


def class_weights(hparams, train):
    """[C] weights of the emotion loss: one over a class's share, or ones."""
    emotions = hparams["emotions"]
    if not hparams["balance_classes"]:
        return torch.ones(len(emotions))
    counts = Counter(entry["emo"] for entry in train.data.values())
    shares = torch.tensor([counts[emotion] for emotion in emotions])
    return shares.sum() / (len(emotions) * shares.clamp(min=1))


def stop_without_data(hparams_file, overrides):
    """Say how to get the corpus before anything is built or downloaded."""
    with open(hparams_file, encoding="utf-8") as fin:
        tree = YAML().load(resolve_references(fin, overrides))
    if tree["data_folder"] is None and not tree["skip_prep"]:
        name = tree["prepare"].tag.value.removeprefix("!name:")
        prepare = pydoc.locate(name)
        prepare(data_folder=None, output_folder=tree["output_folder"])


def main(hparams, run_opts):
    """Prepare, train, test."""
    if run_opts["jit"] or run_opts["jit_module_keys"]:
        sys.exit("\n--jit: TorchScript cannot compile Qieemo; use --compile.")
    if not hparams["skip_prep"]:
        if hparams.get("make_corpus"):
            run_on_main(hparams["make_corpus"])
        run_on_main(hparams["prepare"])
    if hparams["spec_augmentation"]:
        hparams["model"].encoder.spec_augment = hparams["spec_augment"]
    # Where the Brain will be: the cache is filled before there is one.
    hparams["model"].to(run_opts["device"] or infer_device())
    datasets = dataio_prep(hparams)
    hparams["class_weights"] = class_weights(hparams, datasets["train"])

    hparams["checkpointer"].add_recoverable("lobes", hparams["model"].lobes)
    if not hparams["model"].encoder.frozen:
        encoder = hparams["model"].encoder
        hparams["checkpointer"].add_recoverable("encoder", encoder)

    brain = EmotionBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    sampler = DynamicBatchSampler(
        datasets["train"],
        length_func=lambda entry: float(entry["length"]),
        seed=hparams["seed"],
        **hparams["dynamic_batch_sampler"],
    )
    brain.train_sampler = sampler
    brain.fit(
        hparams["epoch_counter"],
        datasets["train"],
        datasets["valid"],
        train_loader_kwargs={
            "batch_sampler": sampler,
            "num_workers": hparams["num_workers"],
        },
        valid_loader_kwargs=hparams["test_dataloader_opts"],
    )
    brain.evaluate(
        datasets["test"],
        max_key="UA",
        test_loader_kwargs=hparams["test_dataloader_opts"],
    )


# RECIPE BEGINS!
if __name__ == "__main__":
    # Reading command line arguments.
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])

    # Initialize ddp (useful only for multi-GPU DDP training).
    sb.utils.distributed.ddp_init_group(run_opts)

    try:
        stop_without_data(hparams_file, overrides)
    except ValueError as error:  # a CorpusError, or a !PLACEHOLDER
        sys.exit(f"\n{error}")

    # Load hyperparameters file with command-line overrides.
    try:
        with open(hparams_file, encoding="utf-8") as fin:
            hparams = load_hyperpyyaml(fin, overrides)
    except BundleError as error:
        sys.exit(f"\n{error}")

    # Create experiment directory
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    try:
        main(hparams, run_opts)
    except (CorpusError, AudioError, BundleError, TokenError) as error:
        sys.exit(f"\n{error}")

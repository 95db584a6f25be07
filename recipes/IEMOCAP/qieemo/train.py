#!/usr/bin/env python3
"""Recipe for training Qieemo, emotion recognition from audio alone.

An ASR encoder gives a phonetic posteriorgram (what is said) and emotional
features of its middle blocks (how it is said); MMF and CMA fuse them; a
classifier answers. See arXiv 2503.22687.

To run this recipe, do the following:
> python train.py hparams/qieemo.yaml --data_folder /path/to/IEMOCAP

Without IEMOCAP, on a small synthetic corpus, in recipes/Synthetic/qieemo:
> python train.py hparams/demo.yaml

All ["folds"] of a corpus: see cross_validate.py. On your own corpus:
> python train.py hparams/manifest.yaml --data_folder DIR --csv_file FILE

Authors
 * The Qieemo-SB authors 2026
"""

import random
import sys
from collections import Counter
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from qieemo_sb.audio import read_audio
from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.errors import (
    AudioError,
    CacheError,
    CorpusError,
    ModelFolderError,
    TokenError,
)
from qieemo_sb.evaluation import plots
from qieemo_sb.evaluation.adaptation import CLIPS_AXIS, SpeakerEmbeddings
from qieemo_sb.evaluation.model_card import model_card
from qieemo_sb.evaluation.scores import Scores, write_metrics, write_predictions
from qieemo_sb.frames import (
    FRAME_HOP,
    SAMPLE_RATE,
    absolute_lengths,
    num_frames,
)
from qieemo_sb.lobes.speaker import SpeakerModel, adapted
from qieemo_sb.lobes.tokens import transcript_problem
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.onednn import accelerate
from qieemo_sb.training.augment import random_crop
from qieemo_sb.training.cache import EncoderCache
from qieemo_sb.training.hparams import check_corpus
from qieemo_sb.training.ppg import check_tokens
from qieemo_sb.training.processes import leave_process_group
from qieemo_sb.training.resume import keep_data, keep_options
from qieemo_sb.training.sampler import loader_options
from qieemo_sb.training.speakers import TrainingSpeakers
from tqdm import tqdm

import speechbrain as sb
from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.utils.distributed import (
    ddp_broadcast,
    get_rank,
    if_main_process,
    infer_device,
    run_on_main,
)


class EmotionBrain(sb.Brain):
    """Trains Qieemo on emotion labels, and on transcripts beside them."""

    def compute_forward(self, batch, stage):
        """Waveforms, or what a frozen encoder said of them → QieemoOutput."""
        batch = batch.to(self.device)
        read = self._read if self.hparams.cache is None else self._remember
        # Only the PPG's loss asks for what is said frame by frame.
        frame_wise = self.hparams.ctc_weight > 0
        said = read(batch, stage == sb.Stage.TRAIN)
        return self.modules.qieemo(**said, frame_wise=frame_wise)

    def _read(self, batch, training):
        """Audio, augmented and cropped in training."""
        wavs, relative = batch.sig
        if training and self.hparams.speed_perturbation:
            wavs, relative = self.hparams.wav_augment(wavs, relative)
        if training and self.hparams.crop_seconds:
            lengths = absolute_lengths(relative, wavs.shape[1])
            size = round(self.hparams.crop_seconds * SAMPLE_RATE)
            wavs, lengths = random_crop(wavs, lengths, size)
            relative = lengths / wavs.shape[1]
        lengths = absolute_lengths(relative, wavs.shape[1])
        return {"wavs": wavs, "lengths": lengths}

    def _remember(self, batch, training):
        """What the frozen encoder said, in training of a crop."""
        size = None
        if training and self.hparams.crop_seconds:
            size = round(self.hparams.crop_seconds * SAMPLE_RATE / FRAME_HOP)
        cache = self.hparams.cache
        frames, lengths = cache.load_batch(batch.wav, size)
        frames, lengths = frames.to(self.device), lengths.to(self.device)
        return {"encoded": cache.output(frames, lengths)}

    def compute_objectives(self, predictions, batch, stage):
        """Emotion loss, plus the CTC loss of the PPG if it has a weight."""
        targets = batch.emo_encoded.data.squeeze(1)
        log_probs = predictions.log_probs
        if self.hparams.speakers is not None:
            log_probs = self._hear(predictions, batch, targets, stage)
        loss = self._emotion_loss(log_probs, targets)
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
        if stage != sb.Stage.TRAIN and self.hparams.speakers is None:
            self.scores.append(batch.id, log_probs, targets)
        return loss

    def _emotion_loss(self, log_probs, targets):
        return sb.nnet.losses.nll_loss(
            log_probs,
            targets,
            weight=self.hparams.class_weights.to(self.device),
            label_smoothing=self.hparams.label_smoothing,
        )

    def _hear(self, predictions, batch, targets, stage):
        """Log-probabilities, in training adapted to who speaks.

        A test first has to hear everything that a speaker says: then
        ``_score_adapted`` answers.
        """
        embedding = predictions.embedding
        if stage != sb.Stage.TRAIN:
            self.heard.append(batch.id, batch.spk_id, embedding, targets)
            return predictions.log_probs
        classifier = self.hparams.model.classifier
        own = self.hparams.speakers(batch.spk_id, embedding)
        return classifier(embedding, adapted(classifier.standard.moments, own))

    def _score_adapted(self):
        """Score what was heard, each speaker adapted to → loss."""
        heard = self.heard
        model = self.hparams.model
        log_probs = heard.log_probs(model.classifier, model.speaker_model)
        self.scores.append(heard.ids, log_probs, heard.targets)
        return self._emotion_loss(log_probs, heard.targets).item()

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
        """Set the learning rates, or start a fresh score sheet."""
        if stage != sb.Stage.TRAIN:
            self.scores, self.heard = Scores(), SpeakerEmbeddings()
            return
        # Not after an epoch for the next: more epochs change what comes next.
        schedules = {
            "lobes": self.hparams.lr_annealing,
            "encoder": self.hparams.encoder_lr_annealing,
        }
        for name, optimizer in self.optimizers_dict.items():
            update_learning_rate(optimizer, schedules[name](epoch)[0])

    def _should_save_intra_epoch_ckpt(self, *since):
        """Save when SpeechBrain would, but not between a step's batches.

        What they have added to the gradients so far is in no checkpoint.
        """
        whole = self.step % self.grad_accumulation_factor == 0
        return whole and super()._should_save_intra_epoch_ckpt(*since)

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Load the best checkpoint, and measure the training speakers by it."""
        super().on_evaluate_start(max_key, min_key)
        if self.hparams.know_speakers:
            self._measure_speakers()

    @torch.no_grad()
    def _measure_speakers(self):
        """Hear the training clips whole, to tell voices from emotions."""
        self.modules.eval()
        heard, model = SpeakerEmbeddings(), self.hparams.model
        loader = self.make_dataloader(
            self.training_clips, sb.Stage.TEST, **self.loader_options
        )
        for batch in tqdm(loader, "Speakers", disable=self.noprogressbar):
            predictions = self.compute_forward(batch, sb.Stage.TEST)
            targets = batch.emo_encoded.data.squeeze(1)
            heard.append(batch.id, batch.spk_id, predictions.embedding, targets)
            if self.debug:  # a batch shows that it runs
                break
        model.speaker_model = SpeakerModel.fitted(
            model.classifier, heard.embeddings, heard.targets, heard.speakers
        )

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log an epoch, keep the best model, write the results."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        if self.hparams.speakers is not None:
            stage_loss = self._score_adapted()
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
        """Log, decide whether to stop, and save, in this order."""
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": self.hparams.lr_annealing(epoch)[0]},
            train_stats={"loss": self.train_loss},
            valid_stats=stats,
        )
        # Before saving: a resumed run has to know how long nothing got better.
        self.hparams.epoch_counter.update_metric(stats["UA"])
        meta = {**stats, "epoch": epoch}
        self.checkpointer.save_and_keep_only(meta=meta, max_keys=["UA"])

    def _end_test(self, summary, stats):
        """Write what DESIGN promises that a run leaves."""
        tested = self.checkpointer.find_checkpoint(max_key="UA")
        self.hparams.train_logger.log_stats(
            {"best epoch": tested.meta["epoch"]}, test_stats=stats
        )
        if if_main_process():
            folder = Path(self.hparams.output_folder)
            if self.debug and (folder / "metrics.json").exists():
                folder = folder / "debug"  # a run's results are worth more
            if self.hparams.speakers is not None:
                model = self.hparams.model
                curve = self.heard.curve(model.classifier, model.speaker_model)
                summary["adaptation"] = curve
            write_results(folder, self.hparams, self.scores, summary)


def write_results(folder, hparams, scores, summary):
    """metrics.json, predictions.csv, confusion.png and the bundle."""
    emotions = hparams.emotions
    facts = {
        "corpus": hparams.corpus,
        "fold": hparams.fold,
        "seed": hparams.seed,
    }
    write_predictions(folder / "predictions.csv", scores, emotions)
    title = "{corpus}, fold {fold}, seed {seed}".format(**facts)
    plots.confusion(
        summary["confusion_matrix"], emotions, folder / "confusion.png", title
    )
    if "adaptation" in summary:
        curve = summary["adaptation"]
        pairs = zip(curve["clips"], curve["weighted_accuracy"], strict=True)
        reached = {str(clips): [accuracy] for clips, accuracy in pairs}
        plots.steps(
            {"WA": reached}, folder / "adaptation.png", title, CLIPS_AXIS
        )
    save_model(
        folder / "model",
        hparams.model,
        model_card({**summary, **facts}),
        emotions,
        tokens=hparams.reader.tokens if hparams.reads else None,
    )
    # Last: it tells that the run is finished.
    write_metrics(folder / "metrics.json", summary, **facts)


def dataio_prep(hparams):
    """Datasets of the three manifests, with labels, tokens and audio.

    Arguments
    ---------
    hparams : dict
        Of the yaml; gets ``label_encoder``, ``reads``, ``speakers``,
        ``know_speakers`` and ``cache``.

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
        read_manifest(file, required=("wav", "length", "emo"))
    run_on_main(keep_data, args=[hparams["save_folder"], files])
    datasets = {
        split: sb.dataio.dataset.DynamicItemDataset.from_json(
            json_path=file,
            replacements={"data_root": hparams["data_folder"]},
        )
        for split, file in files.items()
    }
    check_labels(hparams, datasets)
    hparams["label_encoder"] = make_label_encoder(hparams)
    hparams["reads"] = check_reader(hparams)
    hparams["speakers"] = make_speakers(hparams, datasets)
    hparams["know_speakers"] = all(
        entry.get("spk_id")
        for dataset in datasets.values()
        for entry in dataset.data.values()
    )
    hparams["cache"] = make_cache(hparams, datasets)
    outputs = add_pipelines(hparams, list(datasets.values()))
    sb.dataio.dataset.set_output_keys(list(datasets.values()), outputs)
    return datasets


def add_pipelines(hparams, datasets):
    """Add the steps from a manifest's entry to what the Brain reads."""

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(wav):
        """Read a file as 16 kHz mono."""
        return torch.from_numpy(read_audio(wav))

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

    steps, outputs = [label_pipeline], ["id", "emo_encoded"]
    if hparams["cache"] is None:
        steps.append(audio_pipeline)
        outputs.append("sig")
    else:
        outputs.append("wav")  # what the encoder said of it is read by need
    if hparams["know_speakers"]:
        outputs.append("spk_id")
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
    """Index → emotion in the yaml's order."""
    emotions, n_classes = hparams["emotions"], hparams["n_classes"]
    if len(emotions) != n_classes:
        raise CorpusError(
            f"emotions has {len(emotions)} names, n_classes is {n_classes}."
        )
    encoder = sb.dataio.encoder.CategoricalEncoder()
    encoder.update_from_iterable(emotions, sequence_input=False)
    encoder.expect_len(n_classes)
    return encoder


def make_speakers(hparams, datasets):
    """What is usual for each training speaker; None without adaptation."""
    if not hparams["adapt_speakers"]:
        return None
    for split, dataset in datasets.items():
        for utt_id, entry in dataset.data.items():
            if not entry.get("spk_id"):
                raise CorpusError(
                    f"{split}: {utt_id} has no speaker to adapt to. Give "
                    "every utterance a spk_id, or set adapt_speakers to False."
                )
    names = [entry["spk_id"] for entry in datasets["train"].data.values()]
    return TrainingSpeakers(names, hparams["model"].classifier.width)


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


def main(hparams, run_opts):
    """Prepare, train, test one fold."""
    if run_opts["jit"] or run_opts["jit_module_keys"]:
        sys.exit("\n--jit: TorchScript cannot compile Qieemo; use --compile.")
    if not hparams["skip_prep"]:
        if hparams.get("make_corpus"):
            run_on_main(hparams["make_corpus"])
        run_on_main(hparams["prepare"])
    hparams["emotions"] = [str(emotion) for emotion in hparams["emotions"]]
    if hparams["model"].ppg_head is not None:
        if hparams["model"].ppg_head.frozen:
            accelerate(hparams["model"].ppg_head)
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

    if hparams["speakers"] is not None:
        hparams["speakers"].to(run_opts["device"] or infer_device())
        hparams["checkpointer"].add_recoverable("speakers", hparams["speakers"])

    brain = EmotionBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    loaders = loader_options(
        datasets,
        hparams["dynamic_batch_sampler"],
        seed=hparams["seed"],
        num_workers=hparams["num_workers"],
    )
    brain.train_sampler = loaders["train"]["batch_sampler"]
    brain.training_clips = datasets["train"]
    brain.loader_options = loader_options(
        {"all": datasets["train"]},
        hparams["dynamic_batch_sampler"],
        seed=hparams["seed"],
        num_workers=0,
    )["all"]
    brain.fit(
        hparams["epoch_counter"],
        datasets["train"],
        datasets["valid"],
        train_loader_kwargs=loaders["train"],
        valid_loader_kwargs=loaders["valid"],
    )
    brain.evaluate(
        datasets["test"],
        max_key="UA",
        test_loader_kwargs=loaders["test"],
    )


# RECIPE BEGINS!
if __name__ == "__main__":
    # Reading command line arguments.
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])

    # Initialize ddp (useful only for multi-GPU DDP training).
    sb.utils.distributed.ddp_init_group(run_opts)

    # Say what is wrong, or how to get the corpus, before anything is built.
    try:
        check_corpus(hparams_file, overrides)
    except CorpusError as error:
        sys.exit(f"\n{error}")

    # Load hyperparameters file with command-line overrides.
    try:
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

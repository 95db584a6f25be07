#!/usr/bin/env python3
"""Recipe for training Qieemo, emotion recognition from audio alone.

MMF and CMA fuse a phonetic posteriorgram (the words) and middle blocks (the
voice) of an ASR encoder; a classifier follows. See arXiv 2503.22687.

To run this recipe, on IEMOCAP or on your own corpus:
> python train.py hparams/qieemo.yaml --data_folder /path/to/IEMOCAP
> python train.py hparams/manifest.yaml --data_folder DIR --csv_file FILE

Authors
 * The Qieemo-SB authors 2026
"""

import sys

import torch
from qieemo_sb.corpora.manifest import write_json
from qieemo_sb.evaluation import calibration
from qieemo_sb.evaluation.adaptation import SpeakerEmbeddings
from qieemo_sb.evaluation.model_card import model_card
from qieemo_sb.evaluation.results import write_results
from qieemo_sb.evaluation.scores import Scores
from qieemo_sb.lobes.speaker import SpeakerModel, adapted
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.onednn import accelerate
from qieemo_sb.training import data, run
from qieemo_sb.training.brain import QieemoBrain
from qieemo_sb.training.ppg import check_ctc
from qieemo_sb.training.probe import start_from_probe
from qieemo_sb.training.resume import keep_tokens
from qieemo_sb.training.speakers import TrainingSpeakers
from qieemo_sb.training.targets import EmotionTargets

import speechbrain as sb
from speechbrain.utils.distributed import if_main_process, run_on_main


class EmotionBrain(QieemoBrain):
    """Trains Qieemo on emotion labels, and on transcripts beside them.

    Its base reads hparams.lr_annealing, hparams.encoder_lr_annealing,
    hparams.encoder_opt_class, hparams.train_logger; results, hparams.corpus.
    """

    best = {"max_key": "UA"}
    train_loss = None  # of an epoch; none before the first
    groups = None  # statistics of speakers or corpora, if adapted to them
    whole_clips = None  # split → data and its loader's options

    def compute_forward(self, batch, stage):
        """Runs the model on waveforms or cached frames → QieemoOutput."""
        training = stage == sb.Stage.TRAIN
        perturbs = training and self.hparams.speed_perturbation
        inputs = self.inputs(
            batch.to(self.device),
            crop=self.hparams.crop_seconds if training else None,
            augment=self.hparams.wav_augment if perturbs else None,
        )
        frame_wise = self.hparams.ctc_weight > 0  # the PPG's loss needs that
        return self.modules.qieemo(**inputs, frame_wise=frame_wise)

    def compute_objectives(self, predictions, batch, stage):
        """Emotion loss, plus the CTC loss of the PPG if it has a weight."""
        log_probs, embedding = predictions.log_probs, predictions.embedding
        labels = self.targets.indices(batch.id)
        groups = self.targets.groups(self.hparams.adapt_to, batch.id)
        if stage == sb.Stage.TRAIN and self.groups is not None:
            classifier = self.hparams.model.classifier
            moments = self.groups(groups, embedding)
            moments = adapted(classifier.standard.moments, moments)
            log_probs = classifier(embedding, moments)
        log_probs = self.targets.among_known(log_probs, batch.id)
        if stage != sb.Stage.TRAIN and self.groups is not None:
            # Scored when all clips of a group are there.
            self.embeddings.append(batch.id, groups, embedding, labels)
        elif stage != sb.Stage.TRAIN:
            self.scores.append(batch.id, log_probs, labels)
        loss = self.targets.loss(log_probs, batch.id)
        if self.hparams.ctc_weight > 0:
            ctc_loss = self.ctc_loss(predictions, batch.tokens)
            loss = loss + self.hparams.ctc_weight * ctc_loss
        return loss

    def on_stage_start(self, stage, epoch=None):
        """Set the learning rates, or start with empty scores."""
        super().on_stage_start(stage, epoch)
        self.scores, self.embeddings = Scores(), SpeakerEmbeddings()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log an epoch, keep the best model, write the results."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        model, found = self.hparams.model, self.embeddings
        if found:
            ids, log_probs, labels = self.classify(found)
            self.scores.append(ids, log_probs, labels)
            stage_loss = self.targets.loss(log_probs, ids).item()
        emotions, corpora = self.hparams.emotions, self.targets.corpora
        summary = self.scores.summary(emotions, corpora)
        stats = {"loss": stage_loss, "WA": 100 * summary["weighted_accuracy"]}
        stats["UA"] = 100 * summary["unweighted_accuracy"]
        if stage == sb.Stage.VALID:
            self.end_epoch(epoch, self.train_loss, stats)
            return
        self.end_test(stats)
        if if_main_process():
            if self.hparams.adapt_to == "speaker":
                curve = found.curve(model.classifier, model.speaker_model)
                summary["adaptation"] = curve
            summary |= calibration.reliability(self.scores)
            metrics, folder = {**summary, **self.facts}, self.results_folder
            write_results(folder, metrics, self.scores)
            folder, card = folder / "model", model_card(metrics)
            save_model(folder, model, card, emotions, self.hparams.tokens)

    def on_fit_start(self):
        """Load a checkpoint, or start a new classifier from a probe."""
        super().on_fit_start()
        model, probe_c = self.hparams.model, self.hparams.probe_c
        model.classifier.standard.frozen = bool(probe_c)  # of whole clips
        if probe_c and self.checkpointer.find_checkpoint() is None:
            ids, _, vectors, _ = self.embed("train").columns()
            how = self.hparams.probe_loss, self.hparams.probe_centred
            start_from_probe(model, vectors, ids, self.targets, probe_c, *how)
            found = self.embed("valid", self.hparams.adapt_to)
            self.scores, self.embeddings = Scores(), found
            self.on_stage_end(sb.Stage.VALID, None, epoch=0)

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Load the best checkpoint, calibrate it, fit the speaker model."""
        super().on_evaluate_start(max_key, min_key)
        if self.hparams.calibrate:  # changes logits that speakers are fitted on
            self.calibrate(self.hparams.calibrate)
        if not self.hparams.speakers_known or self.hparams.adapt_to == "corpus":
            return
        _, speakers, *columns = self.embed("train").columns()
        classifier = self.hparams.model.classifier
        fitted = SpeakerModel.fitted(classifier, *columns, speakers)
        self.hparams.model.speaker_model = fitted

    @torch.no_grad()
    def calibrate(self, path):
        """Fit a temperature on validation clips, or read it."""
        if path is True:
            found = self.embed("valid", self.hparams.adapt_to)
            ids, *outputs = self.classify(found)
            rows, weights = self.targets.emotional(ids)
            outputs = *(x[rows] for x in outputs), weights
            fit = calibration.measure_calibration(*outputs)
            path = self.results_folder / "calibration.json"
            run_on_main(write_json, args=[fit, path])
        classifier = self.hparams.model.classifier
        self.facts["calibration"] = calibration.apply_file(classifier, path)

    def classify(self, found):
        """Ids, log-probabilities and labels of embedded clips."""
        model = self.hparams.model
        ids, _, vectors, labels = found.columns()
        if self.groups is None:
            log_probs = model.classifier(vectors)
        else:
            log_probs = found.log_probs(model.classifier, model.speaker_model)
        return ids, self.targets.among_known(log_probs, ids), labels

    def embed(self, split, kind="speaker"):
        """Embeddings of a split's whole clips, by speaker or other groups."""
        found, (clips, options) = SpeakerEmbeddings(), self.whole_clips[split]
        for batch, outputs in self.outputs(clips, **options):
            labels = self.targets.indices(batch.id)
            groups = self.targets.groups(kind, batch.id)
            found.append(batch.id, groups, outputs.embedding, labels)
        return found


def dataio_prep(hparams):
    """Datasets of the three manifests, with labels, tokens and speech.

    ``hparams`` gets ``cache``, ``speakers_known`` and the PPG's ``tokens``.
    """
    splits, model = ("train", "valid", "test"), hparams["model"]
    manifests = {split: hparams[f"{split}_annotation"] for split in splits}
    if hparams["refit"]:
        manifests = data.with_valid_in_train(manifests, hparams["save_folder"])
    folders = dict.fromkeys(manifests, hparams["data_folder"])
    datasets = data.read_datasets(
        manifests, folders, ("wav", "length", "emo"), hparams["save_folder"]
    )
    data.check_labels(datasets, hparams["emotions"], hparams["n_classes"])
    tokens, weight = hparams["transcriber"].tokens, hparams["ctc_weight"]
    check_ctc(model, weight, hparams["crop_seconds"])
    # An untrained head that nothing teaches transcribes nothing.
    teaches = model.ppg_head and (weight > 0 or hparams["transcriber"].trained)
    hparams["tokens"] = tokens if teaches else None
    if teaches:
        run_on_main(keep_tokens, args=[hparams["save_folder"], tokens])
    adapts = hparams["adapt_to"] == "speaker"
    hparams["speakers_known"] = data.check_speakers(datasets, adapts)
    varies = hparams["speed_perturbation"] or hparams["spec_augmentation"]
    folder = None if varies else hparams["cache_folder"]
    dtype = hparams["cache_dtype"]
    hparams["cache"] = data.fill_cache(datasets, model, folder, dtype)

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("tokens")
    def token_pipeline(wrd):
        """Indices of the transcript's tokens."""
        return torch.tensor(tokens.encode_as_ids(wrd))

    speech = data.add_speech(datasets, hparams["cache"])
    outputs = ["id", speech]
    if weight > 0:
        data.alignable(datasets, tokens, "set ctc_weight to 0")
        sb.dataio.dataset.add_dynamic_item(datasets.values(), token_pipeline)
        outputs.append("tokens")
    sb.dataio.dataset.set_output_keys(datasets.values(), outputs)
    return datasets


def train(hparams, run_opts):
    """Prepare and train a fold → Brain, test data, options of its loader.

    ``data`` reads hparams.make_corpus, hparams.prepare, hparams.skip_prep.
    """
    run_on_main(data.prepare, args=[hparams])
    hparams["emotions"] = [str(emotion) for emotion in hparams["emotions"]]
    model = hparams["model"]
    device = run.move_to_device(model, run_opts)  # before the cache
    if model.ppg_head is not None and model.ppg_head.frozen:
        accelerate(model.ppg_head)
    if hparams["spec_augmentation"]:
        model.encoder.spec_augment = hparams["spec_augment"]
    datasets = dataio_prep(hparams)
    brain = EmotionBrain(
        modules={"qieemo": model},
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
        cache=hparams["cache"],
    )
    if hparams["refit"]:  # nothing is left to choose by
        brain.best = {"max_key": "epoch"}
    brain.targets = EmotionTargets(
        datasets,
        hparams["emotions"],
        balance=hparams["balance_classes"],
        corpus_weights=hparams.get("corpus_weights"),
        vote_share=hparams["vote_share"],
        smoothing=hparams["label_smoothing"],
    ).to(device)
    if kind := hparams["adapt_to"]:
        names = brain.targets.groups(kind, datasets["train"].data)
        brain.groups = TrainingSpeakers(names, model.classifier.width)
        brain.groups.to(device)
        brain.checkpointer.add_recoverable("groups", brain.groups)
    loaders = data.loader_options(
        {**datasets, "whole clips": datasets["train"]},
        hparams["dynamic_batch_sampler"],
        seed=hparams["seed"],
        num_workers=hparams["num_workers"],
        cached=hparams["cache"] is not None,
        crop=hparams["crop_seconds"],
    )
    keys = ("corpus", "corpora", "read_speech", "fold", "seed")
    brain.facts = {k: hparams[k] for k in keys if k in hparams}
    brain.train_sampler = loaders["train"]["batch_sampler"]
    whole = {"train": loaders["whole clips"], "valid": loaders["valid"]}
    brain.whole_clips = {k: (datasets[k], whole[k]) for k in whole}
    brain.fit(
        hparams["epoch_counter"],
        datasets["train"],
        datasets["valid"],
        train_loader_kwargs=loaders["train"],
        valid_loader_kwargs=loaders["valid"],
    )
    return brain, datasets["test"], loaders["test"]


def main(hparams_file, run_opts, overrides):
    """Train and test hparams.fold; cross_validate.py hparams["folds"]."""
    overrides = run.choose_epochs(train, hparams_file, run_opts, overrides)
    hparams = run.start(hparams_file, run_opts, overrides, check_data=True)
    sb.create_experiment_directory(
        hparams["output_folder"], hparams_file, overrides
    )
    brain, clips, options = train(hparams, run_opts)
    brain.evaluate(clips, **brain.best, test_loader_kwargs=options)


if __name__ == "__main__":
    arguments = sb.parse_arguments(sys.argv[1:])
    sb.utils.distributed.ddp_init_group(arguments[1])
    with run.plain_errors():
        main(*arguments)
    run.leave_process_group()

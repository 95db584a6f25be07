#!/usr/bin/env python3
"""Recipe for training Qieemo, emotion recognition from audio alone.

MMF and CMA fuse a phonetic posteriorgram (the words) and middle blocks (the
voice) of an ASR encoder; a classifier follows. See arXiv 2503.22687.

To run this recipe, on IEMOCAP or on your own corpus:
> python train.py hparams/qieemo.yaml --data_folder /path/to/IEMOCAP
> python train.py hparams/manifest.yaml --data_folder DIR --csv_file FILE

Without IEMOCAP, on a small synthetic corpus, in recipes/Synthetic/qieemo:
> python train.py hparams/demo.yaml

Authors
 * The Qieemo-SB authors 2026
"""

import sys
from pathlib import Path

import torch
from qieemo_sb.errors import QieemoError
from qieemo_sb.evaluation import plots
from qieemo_sb.evaluation.adaptation import CLIPS_AXIS, SpeakerEmbeddings
from qieemo_sb.evaluation.model_card import model_card
from qieemo_sb.evaluation.scores import Scores, write_metrics, write_predictions
from qieemo_sb.lobes.speaker import SpeakerModel, adapted
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.onednn import accelerate
from qieemo_sb.training import data, run
from qieemo_sb.training.brain import QieemoBrain
from qieemo_sb.training.ppg import check_ctc
from qieemo_sb.training.resume import keep_tokens
from qieemo_sb.training.speakers import TrainingSpeakers
from tqdm import tqdm

import speechbrain as sb
from speechbrain.utils.distributed import if_main_process, run_on_main


class EmotionBrain(QieemoBrain):
    """Trains Qieemo on emotion labels, and on transcripts beside them.

    Its base reads hparams.lr_annealing, hparams.encoder_lr_annealing,
    hparams.encoder_opt_class and hparams.train_logger.
    """

    best = {"max_key": "UA"}
    speakers = None  # statistics of each, if the classifier is adapted to them
    whole_clips = None  # training data and its loader's options

    def compute_forward(self, batch, stage):
        """Runs the model on waveforms or cached frames → QieemoOutput."""
        training = stage == sb.Stage.TRAIN
        perturbs = training and self.hparams.speed_perturbation
        inputs = self.inputs(
            batch.to(self.device),
            crop=self.hparams.crop_seconds if training else None,
            augment=self.hparams.wav_augment if perturbs else None,
        )
        # Only the PPG's loss needs frame-wise outputs.
        frame_wise = self.hparams.ctc_weight > 0
        return self.modules.qieemo(**inputs, frame_wise=frame_wise)

    def compute_objectives(self, predictions, batch, stage):
        """Emotion loss, plus the CTC loss of the PPG if it has a weight."""
        targets = batch.emo_encoded.data.squeeze(1)
        log_probs, embedding = predictions.log_probs, predictions.embedding
        if stage == sb.Stage.TRAIN and self.speakers is not None:
            classifier = self.hparams.model.classifier
            moments = self.speakers(batch.spk_id, embedding)
            moments = adapted(classifier.standard.moments, moments)
            log_probs = classifier(embedding, moments)
        elif stage != sb.Stage.TRAIN and self.speakers is not None:
            # Scored when all clips of a speaker are there.
            self.embeddings.append(batch.id, batch.spk_id, embedding, targets)
        elif stage != sb.Stage.TRAIN:
            self.scores.append(batch.id, log_probs, targets)
        loss = self.emotion_loss(log_probs, targets)
        if self.hparams.ctc_weight > 0:
            ctc_loss = self.ctc_loss(predictions, batch.tokens)
            loss = loss + self.hparams.ctc_weight * ctc_loss
        return loss

    def emotion_loss(self, log_probs, targets):
        """Negative log-likelihood with class weights and label smoothing."""
        return sb.nnet.losses.nll_loss(
            log_probs,
            targets,
            weight=self.class_weights,
            label_smoothing=self.hparams.label_smoothing,
        )

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
        if self.speakers is not None:
            log_probs = found.log_probs(model.classifier, model.speaker_model)
            ids, _, _, targets = found.columns()
            self.scores.append(ids, log_probs, targets)
            stage_loss = self.emotion_loss(log_probs, targets).item()
        summary = self.scores.summary(self.hparams.emotions)
        stats = {
            "loss": stage_loss,
            "WA": 100 * summary["weighted_accuracy"],
            "UA": 100 * summary["unweighted_accuracy"],
        }
        if stage == sb.Stage.VALID:
            self.end_epoch(epoch, self.train_loss, stats)
            return
        self.end_test(stats)
        if if_main_process():
            if self.speakers is not None:
                curve = found.curve(model.classifier, model.speaker_model)
                summary["adaptation"] = curve
            folder = Path(self.hparams.output_folder)
            if self.debug and (folder / "metrics.json").exists():
                folder = folder / "debug"  # a trial replaces no results
            write_results(folder, self.hparams, self.scores, summary)

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Load the best checkpoint, and fit the speaker model with it."""
        super().on_evaluate_start(max_key, min_key)
        if self.whole_clips is not None:
            self.fit_speaker_model(*self.whole_clips)

    @torch.no_grad()
    def fit_speaker_model(self, clips, options):
        """Learn from training clips to tell voice from emotion."""
        self.modules.eval()
        found, model = SpeakerEmbeddings(), self.hparams.model
        loader = self.make_dataloader(clips, sb.Stage.TEST, **options)
        for batch in tqdm(loader, "Speakers", disable=self.noprogressbar):
            embedding = self.compute_forward(batch, sb.Stage.TEST).embedding
            targets = batch.emo_encoded.data.squeeze(1)
            found.append(batch.id, batch.spk_id, embedding, targets)
            if self.debug:  # a batch shows that it runs
                break
        _, speakers, embeddings, targets = found.columns()
        model.speaker_model = SpeakerModel.fitted(
            model.classifier, embeddings, targets, speakers
        )


def write_results(folder, hparams, scores, summary):
    """Write metrics.json, predictions.csv, pictures and the model folder."""
    emotions = hparams.emotions
    facts = {
        "corpus": hparams.corpus,
        "fold": hparams.fold,
        "seed": hparams.seed,
    }
    title = "{corpus}, fold {fold}, seed {seed}".format(**facts)
    write_metrics(folder / "metrics.json", {**summary, **facts})
    write_predictions(folder / "predictions.csv", scores, emotions)
    plots.confusion(summary, folder / "confusion.png", title)
    if "adaptation" in summary:
        curve = summary["adaptation"]
        pairs = zip(curve["clips"], curve["weighted_accuracy"], strict=True)
        steps = {str(clips): [accuracy] for clips, accuracy in pairs}
        path = folder / "adaptation.png"
        plots.columns({"WA": steps}, path, title, CLIPS_AXIS)
    save_model(
        folder / "model",
        hparams.model,
        model_card({**summary, **facts}),
        emotions,
        tokens=hparams.tokens,
    )


def dataio_prep(hparams):
    """Datasets of the three manifests, with labels, tokens and speech.

    ``hparams`` gets ``cache``, ``speakers_known`` and the PPG's ``tokens``.
    """
    splits, model = ("train", "valid", "test"), hparams["model"]
    datasets = data.read_datasets(
        {split: hparams[f"{split}_annotation"] for split in splits},
        dict.fromkeys(splits, hparams["data_folder"]),
        ("wav", "length", "emo"),
        hparams["save_folder"],
    )
    emotions = hparams["emotions"]
    data.check_labels(datasets, emotions, hparams["n_classes"])
    tokens, weight = hparams["transcriber"].tokens, hparams["ctc_weight"]
    check_ctc(model, weight, hparams["crop_seconds"])
    # An untrained head that nothing teaches transcribes nothing.
    teaches = model.ppg_head and (weight > 0 or hparams["transcriber"].trained)
    hparams["tokens"] = tokens if teaches else None
    if teaches:
        run_on_main(keep_tokens, args=[hparams["save_folder"], tokens])
    hparams["speakers_known"] = data.check_speakers(
        datasets, hparams["adapt_speakers"]
    )
    # Augmentation changes the encoder's input.
    varies = hparams["speed_perturbation"] or hparams["spec_augmentation"]
    folder = None if varies else hparams["cache_folder"]
    hparams["cache"] = data.fill_cache(
        datasets, model, folder, hparams["cache_dtype"]
    )

    @sb.utils.data_pipeline.takes("emo")
    @sb.utils.data_pipeline.provides("emo_encoded")
    def label_pipeline(emo):
        """Index of the emotion."""
        return torch.tensor([emotions.index(emo)])

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("tokens")
    def token_pipeline(wrd):
        """Indices of the transcript's tokens."""
        return torch.tensor(tokens.encode_as_ids(wrd))

    speech = data.add_speech(datasets, hparams["cache"])
    sb.dataio.dataset.add_dynamic_item(datasets.values(), label_pipeline)
    outputs = ["id", speech, "emo_encoded"]
    if hparams["speakers_known"]:
        outputs.append("spk_id")
    if weight > 0:
        data.alignable(datasets, tokens, "set ctc_weight to 0")
        sb.dataio.dataset.add_dynamic_item(datasets.values(), token_pipeline)
        outputs.append("tokens")
    sb.dataio.dataset.set_output_keys(datasets.values(), outputs)
    return datasets


def main(hparams, run_opts):
    """Prepare, train and test a fold; cross_validate.py hparams["folds"]."""
    if not hparams["skip_prep"]:
        if hparams.get("make_corpus"):
            run_on_main(hparams["make_corpus"])
        run_on_main(hparams["prepare"])
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
    brain.class_weights = data.class_weights(
        datasets["train"], hparams["emotions"], hparams["balance_classes"]
    ).to(device)
    if hparams["adapt_speakers"]:
        speakers = [e["spk_id"] for e in datasets["train"].data.values()]
        width = model.classifier.width
        brain.speakers = TrainingSpeakers(speakers, width).to(device)
        brain.checkpointer.add_recoverable("speakers", brain.speakers)
    loaders = data.loader_options(
        {**datasets, "whole clips": datasets["train"]},
        hparams["dynamic_batch_sampler"],
        seed=hparams["seed"],
        num_workers=hparams["num_workers"],
        cached=hparams["cache"] is not None,
        crop=hparams["crop_seconds"],
    )
    brain.train_sampler = loaders["train"]["batch_sampler"]
    if hparams["speakers_known"]:
        brain.whole_clips = datasets["train"], loaders["whole clips"]
    brain.fit(
        hparams["epoch_counter"],
        datasets["train"],
        datasets["valid"],
        train_loader_kwargs=loaders["train"],
        valid_loader_kwargs=loaders["valid"],
    )
    brain.evaluate(
        datasets["test"], **brain.best, test_loader_kwargs=loaders["test"]
    )


if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    sb.utils.distributed.ddp_init_group(run_opts)
    try:
        hparams = run.start(hparams_file, run_opts, overrides, check_data=True)
        sb.create_experiment_directory(
            hparams["output_folder"], hparams_file, overrides
        )
        main(hparams, run_opts)
    except QieemoError as error:
        sys.exit(f"\n{error}")
    run.leave_process_group()

#!/usr/bin/env python3
"""Recipe for training Qieemo's PPG head: stage 1, speech to text.

A CTC head on the last block of an ASR encoder learns to transcribe; its
phonetic posteriorgram is one of the two views of speech that stage 2
(train.py) fuses.

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

import sys
from pathlib import Path

import torch
from qieemo_sb.corpora.manifest import replacing, write_json
from qieemo_sb.evaluation.model_card import ppg_card
from qieemo_sb.lobes.ppg import greedy
from qieemo_sb.model import PPGModel
from qieemo_sb.serving.folder import save_model
from qieemo_sb.training import data, run
from qieemo_sb.training.brain import QieemoBrain
from qieemo_sb.training.resume import keep_tokens

import speechbrain as sb
from speechbrain.utils.distributed import if_main_process, run_on_main


class PPGBrain(QieemoBrain):
    """Trains the PPG head, and what of the encoder is to train, by CTC.

    Its base sets the rates hparams.lr_annealing and
    hparams.encoder_lr_annealing, the latter of hparams.encoder_opt_class, and
    writes to hparams.train_logger.
    """

    best = {"min_key": "CER"}

    def compute_forward(self, batch, stage):
        """Runs the model on waveforms or cached frames → PPGOutput."""
        return self.modules.model(**self.inputs(batch.to(self.device)))

    def compute_objectives(self, predictions, batch, stage):
        """CTC loss."""
        if stage != sb.Stage.TRAIN:
            decode = self.hparams.tokenizer.decode_ids
            found = map(decode, greedy(predictions.ppg, predictions.lengths))
            found, target = list(found), list(map(decode, batch.token_list))
            self.cer.append(batch.id, map(list, found), map(list, target))
            words = [[t.split() for t in texts] for texts in (found, target)]
            self.wer.append(batch.id, *words)
        return self.ctc_loss(predictions, batch.tokens)

    def on_stage_start(self, stage, epoch=None):
        """Set the learning rates and thaw the encoder, or start new scores."""
        super().on_stage_start(stage, epoch)
        if stage != sb.Stage.TRAIN:
            self.cer = self.hparams.error_rate_computer()
            self.wer = self.hparams.error_rate_computer()
        elif "encoder" in self.optimizers_dict:
            trains = epoch > self.hparams.warmup_epochs
            for group in self.optimizers_dict["encoder"].param_groups:
                for parameter in group["params"]:
                    parameter.requires_grad_(trains)

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
        if stage == sb.Stage.VALID:
            self.end_epoch(epoch, self.train_loss, stats)
            return
        self.end_test(stats)
        if if_main_process():
            write_results(self.hparams, self.cer, self.wer)


def write_results(hparams, cer, wer):
    """Write metrics.json, readings.txt and the model folder."""
    folder = Path(hparams.output_folder)
    metrics = {
        "character_error_rate": cer.summarize("error_rate") / 100,
        "word_error_rate": wer.summarize("error_rate") / 100,
        "num_utterances": len(cer.scores),
        "tokens": str(hparams.tokenizer),
        "corpus": hparams.corpus,
        "seed": hparams.seed,
    }
    write_json(metrics, folder / "metrics.json")
    with replacing(folder / "readings.txt") as partial:
        with open(partial, "w", encoding="utf-8") as fout:
            wer.write_stats(fout)
    save_model(
        folder / "model",
        hparams.model,
        ppg_card(metrics),
        tokens=hparams.tokenizer,
    )


def dataio_prep(hparams, run_opts):
    """Datasets of the three manifests, with tokens and speech.

    Fits the tokenizer, which tells how wide the PPG is; ``hparams`` gets
    ``model`` and ``cache``.
    """
    splits = ("train", "valid", "test")
    datasets = data.read_datasets(
        {split: hparams[f"{split}_annotation"] for split in splits},
        {split: hparams[f"{split}_folder"] for split in splits},
        ("wav", "length"),
        hparams["save_folder"],
    )
    tokens, encoder = hparams["tokenizer"], hparams["encoder"]
    tokens.fit(e.get("wrd", "") for e in datasets["train"].data.values())
    run_on_main(keep_tokens, args=[hparams["save_folder"], tokens])
    datasets = data.alignable(
        datasets,
        tokens,
        "set leave_out_unalignable to True",
        leave_out=hparams["leave_out_unalignable"],
    )
    ppg_head = hparams["make_ppg_head"](encoder.d_model, len(tokens))
    hparams["model"] = PPGModel(encoder, ppg_head)
    run.move_to_device(hparams["model"], run_opts)
    hparams["cache"] = data.fill_cache(
        datasets,
        hparams["model"],
        hparams["cache_folder"],
        hparams["cache_dtype"],
    )

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("token_list", "tokens")
    def token_pipeline(wrd):
        """Indices of the transcript's tokens."""
        token_list = tokens.encode_as_ids(wrd)
        yield token_list
        yield torch.tensor(token_list)

    sb.dataio.dataset.add_dynamic_item(datasets.values(), token_pipeline)
    speech = data.add_speech(datasets, hparams["cache"])
    outputs = ["id", speech, "token_list", "tokens"]
    sb.dataio.dataset.set_output_keys(datasets.values(), outputs)
    return datasets


def main(hparams, run_opts):
    """Prepare, train, test."""
    if not hparams["skip_prep"]:
        # First: it needs data that may be missing, the other takes minutes.
        if hparams["prepare_test"]:
            run_on_main(hparams["prepare_test"])
        run_on_main(hparams["prepare"])
    datasets = dataio_prep(hparams, run_opts)
    brain = PPGBrain(
        modules={"model": hparams["model"]},
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
        cache=hparams["cache"],
    )
    if hparams["warmup_epochs"] and not hparams["encoder"].frozen:
        # Until then DDP must not wait for the encoder's gradients.
        brain.find_unused_parameters = True
    loaders = data.loader_options(
        datasets,
        hparams["dynamic_batch_sampler"],
        seed=hparams["seed"],
        num_workers=hparams["num_workers"],
        cached=hparams["cache"] is not None,
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
        datasets["test"], **brain.best, test_loader_kwargs=loaders["test"]
    )


if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    sb.utils.distributed.ddp_init_group(run_opts)
    with run.plain_errors():
        hparams = run.start(hparams_file, run_opts, overrides)
        sb.create_experiment_directory(
            hparams["output_folder"], hparams_file, overrides
        )
        main(hparams, run_opts)
    run.leave_process_group()

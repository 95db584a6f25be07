#!/usr/bin/env python3
"""Time of an epoch, compared with SpeechBrain's Whisper lobe.

Frozen: ours encodes the clips once, into a cache, and trains the layers above
the encoder from there, on random crops of 2 s as the recipe does and on whole
clips; the lobe encodes them, padded to 30 s, every epoch. Later epochs follow
one another, as they do in a run, ten at a time. Fine-tuned: all of both
encoders trains. The same clips, batches and optimizer for both; ours trains the
whole of Qieemo, the lobe an average and a layer.

> python bench/training.py --whisper openai/whisper-base --wavs DIR

Authors
 * The Qieemo-SB authors 2026
"""

import tempfile
from pathlib import Path

import soundfile
import timing
import torch
from contestants import EMOTIONS, SpeechBrainLobe, make_model

from qieemo_sb.frames import FRAME_SECONDS, SAMPLE_RATE
from qieemo_sb.serving.onednn import accelerate
from qieemo_sb.training.augment import random_crop
from qieemo_sb.training.cache import EncoderCache

BATCH = 8
CROP_SECONDS = 2.0  # the recipe's
LATER_EPOCHS = 10  # in a row: one is over before caches are warm

FIRST = "frozen, first epoch, qieemo"
LATER = "frozen, later epochs, qieemo"
WHOLE = "frozen, later epochs, whole clips, qieemo"
LOBE = "frozen, every epoch, speechbrain"
TUNED = "fine-tuned, qieemo"
TUNED_BF16 = "fine-tuned, qieemo, bf16"
TUNED_LOBE = "fine-tuned, speechbrain"
PAIRS = [(FIRST, LOBE), (LATER, LOBE), (WHOLE, LOBE)]
PAIRS += [(TUNED, TUNED_LOBE), (TUNED_BF16, TUNED_LOBE)]


def main(arguments=None):
    options = timing.parser(__doc__.partition("\n")[0]).parse_args(arguments)
    about = timing.start(options)
    clips = sorted(timing.make_clips(options.clips, options.wavs), key=len)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(clips, Path(folder))
        cached = OursFrozen(options.whisper, paths, Path(folder) / "cache")
        results[FIRST] = first_epoch(cached)
        whole = OursFrozen(options.whisper, paths, Path(folder) / "cache", None)
        contestants = {
            LATER: (cached, LATER_EPOCHS),
            WHOLE: (whole, LATER_EPOCHS),
            LOBE: (Lobe(options, clips, True), 1),
            TUNED: (OursTuned(options.whisper, clips), 1),
            TUNED_BF16: (OursTuned(options.whisper, clips, True), 1),
            TUNED_LOBE: (Lobe(options, clips, False), 1),
        }
        times = timing.alternate(
            {
                name: lambda _, c=c, n=n: [c.epoch() for _ in range(n)]
                for name, (c, n) in contestants.items()
            },
            [None],
            options.repeats,
        )
    results |= {
        name: times[name].summary(per=n) for name, (_, n) in contestants.items()
    }
    show(results)
    timing.write(options, about, results)


def write_clips(clips, folder):
    paths = []
    for i, clip in enumerate(clips):
        paths.append(folder / f"{i}.wav")
        soundfile.write(paths[-1], clip.numpy(), SAMPLE_RATE)
    return paths


def first_epoch(cached):
    """Seconds of filling the cache and training once; there is but one."""
    times = timing.Times()

    def fill_and_train():
        cached.fill()
        cached.epoch()

    times.add(*timing.timed(fill_and_train))
    return times.summary()


def batches(items):
    return [items[i : i + BATCH] for i in range(0, len(items), BATCH)]


class Trainer:
    """An optimizer and an epoch; children say what a batch's scores are."""

    def __init__(self, parameters, items):
        trained = [p for p in parameters if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
        self.items = items

    def epoch(self):
        for batch in batches(self.items):
            scores = self.scores(batch)
            targets = torch.arange(len(batch)) % len(EMOTIONS)
            torch.nn.functional.cross_entropy(scores, targets).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


class OursFrozen(Trainer):
    """Qieemo on a frozen encoder's cache."""

    def __init__(self, whisper, paths, folder, crop=CROP_SECONDS):
        self.crop = None if crop is None else round(crop / FRAME_SECONDS)
        self.model = make_model(whisper)
        # Stage 2 of the recipe: the head has learned to read in stage 1.
        accelerate(self.model.ppg_head.freeze())
        self.model.train()
        self.cache = EncoderCache(folder, self.model.encoder, self.model.blocks)
        super().__init__(self.model.parameters(), paths)

    def fill(self):
        self.cache.fill(self.items)

    def scores(self, paths):
        frames = [self.cache.load(path) for path in paths]
        size = self.crop or max(map(len, frames))
        encoded = self.cache.output(*random_crop(frames, size))
        return self.model(encoded=encoded, frame_wise=False).log_probs


class OursTuned(Trainer):
    """Qieemo with an encoder that trains; bf16 as with --precision=bf16."""

    def __init__(self, whisper, clips, bf16=False):
        self.model = make_model(whisper, trainable_above=0).train()
        self.bf16 = bf16
        super().__init__(self.model.parameters(), clips)

    def scores(self, clips):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            batch = timing.pad(clips)
            return self.model(*batch, frame_wise=False).log_probs.float()


class Lobe(Trainer):
    """SpeechBrain's lobe, an average and a layer."""

    def __init__(self, options, clips, freeze):
        self.model = SpeechBrainLobe(options.whisper, options.threads, freeze)
        modules = (self.model.lobe, self.model.head)
        super().__init__([p for m in modules for p in m.parameters()], clips)

    def scores(self, clips):
        return self.model.logits(clips)


def show(results):
    timing.table(
        ["", "s an epoch, median (least to most)", "CPU s"],
        [
            [
                name,
                "{median:.3f} ({least:.3f} to {most:.3f})".format(**summary),
                f"{summary['cpu_median']:.3f}",
            ]
            for name, summary in results.items()
        ],
    )
    for ours, theirs in PAIRS:
        ratio = results[theirs]["median"] / results[ours]["median"]
        print(f"{ours}: {ratio:.1f} times faster than speechbrain")


if __name__ == "__main__":
    main()

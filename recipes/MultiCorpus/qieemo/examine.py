#!/usr/bin/env python3
"""Examine a trained model: corpora, sexes, lengths, and worse recordings.

To use it on the folder of a run of train.py:
> python examine.py results/several/1986 --data_root DIR --clips 300

From the run's test predictions come UA by corpus, WA by sex and by length of a
clip. Then a sample of each corpus is classified anew with noise, through a
telephone and at other levels. The tables are examine.json and examine.md in the
folder of the run.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import csv
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from command_line import run
from qieemo_sb import load_model
from qieemo_sb.audio import read_audio
from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.evaluation import tables
from qieemo_sb.evaluation.calibration import expected_calibration_error
from qieemo_sb.evaluation.scores import score
from qieemo_sb.frames import SAMPLE_RATE
from torch.nn.utils.rnn import pad_sequence
from torchaudio import functional

FOUR = ("neutral", "happy", "sad", "angry")
LENGTHS = (1.5, 2.5, 4.0)  # seconds, between groups of clips
BATCH = 16


def noise(decibels):
    """White noise, so many dB below the clip."""

    def add(wav, generator):
        level = wav.square().mean().sqrt() * 10 ** (-decibels / 20)
        return wav + level * torch.randn(wav.shape, generator=generator)

    return add


def telephone(wav, generator):
    """300 to 3400 Hz at 8 kHz, as over a telephone line."""
    wav = functional.resample(wav, SAMPLE_RATE, SAMPLE_RATE // 2)
    wav = functional.highpass_biquad(wav, SAMPLE_RATE // 2, 300)
    wav = functional.lowpass_biquad(wav, SAMPLE_RATE // 2, 3400)
    return functional.resample(wav, SAMPLE_RATE // 2, SAMPLE_RATE)


def gain(decibels):
    """So many dB louder, clipped where a recording would be."""
    return lambda wav, _: (wav * 10 ** (decibels / 20)).clamp(-1, 1)


CONDITIONS = {
    "as recorded": lambda wav, _: wav,
    "noise, 20 dB": noise(20),
    "noise, 10 dB": noise(10),
    "telephone band": telephone,
    "20 dB softer": gain(-20),
    "12 dB louder, clipped": gain(12),
}


def main(arguments):
    """Write examine.json and examine.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("run", type=Path, help="folder of a run of train.py")
    add("--data_root", type=Path, required=True, help="as train.py had it")
    add("--clips", type=int, default=300, help="of each corpus, sampled (300)")
    add("--model", type=Path, help="another folder of it (RUN/model)")
    options = parser.parse_args(arguments)
    clips = {x.utt_id: x for x in read_manifest(options.run / "test.json")}
    labels, log_probs = read_predictions(options.run / "predictions.csv")
    rows = [(clip, log_probs[utt_id]) for utt_id, clip in clips.items()]
    result = {
        "title": f"{options.run.name}: what the model does where",
        "corpora": by(rows, lambda clip: clip.corpus, labels),
        "sexes": by(rows, lambda clip: clip.gender or "unknown", labels),
        "lengths": by(rows, length_group, labels),
    }
    chosen = sample(clips.values(), options.clips)
    classifier = load_model(options.model or options.run / "model")
    result["clips"] = options.clips
    result["conditions"] = {
        name: by(
            list(
                zip(
                    chosen,
                    classify(classifier, chosen, change, options.data_root),
                    strict=True,
                )
            ),
            lambda clip: clip.corpus,
            labels,
        )
        for name, change in CONDITIONS.items()
    }
    tables.write(options.run / "examine", result, describe(result))
    print(f"{describe(result)}\nIn {options.run}: examine.json, examine.md")


def read_predictions(path):
    """Labels, and log-probabilities [C] by utterance."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [key for key in rows[0] if key.startswith("log_prob_")]
    found = {
        row["utt_id"]: torch.tensor([float(row[name]) for name in names])
        for row in rows
    }
    return [name.removeprefix("log_prob_") for name in names], found


def length_group(clip):
    """Length of a clip in words."""
    edges = (0.0, *LENGTHS, float("inf"))
    pairs = zip(edges, edges[1:], strict=False)
    low, high = next(pair for pair in pairs if clip.length < pair[1])
    return f"{low} to {high} s" if high < edges[-1] else f"{low} s and more"


def sample(clips, number):
    """As many clips of each corpus, or all, the same whatever is asked next."""
    groups = defaultdict(list)
    for clip in clips:
        groups[clip.corpus].append(clip)
    rng = random.Random(1986)
    return [
        clip
        for part in groups.values()
        for clip in rng.sample(part, min(number, len(part)))
    ]


@torch.inference_mode()
def classify(classifier, clips, change, root):
    """Log-probabilities [C] of changed clips."""
    order = sorted(range(len(clips)), key=lambda i: clips[i].length)
    found = [None] * len(clips)
    generator = torch.Generator().manual_seed(1986)
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        wavs = [
            change(torch.from_numpy(read_audio(root / clips[i].wav)), generator)
            for i in places
        ]
        lengths = torch.tensor([len(wav) for wav in wavs])
        vectors = classifier.embed_batch(pad_sequence(wavs, True), lengths)
        for i, row in zip(places, classifier.log_probs(vectors), strict=True):
            found[i] = row
    return found


def by(rows, key, labels):
    """Scores of (clip, log-probabilities) by group, largest group first."""
    groups = defaultdict(list)
    for clip, log_probs in rows:
        groups[key(clip)].append((clip, log_probs))
    order = sorted(groups, key=lambda name: (-len(groups[name]), name))
    return {name: scores(groups[name], labels) for name in order}


def scores(rows, labels):
    """WA, UA, UA of four emotions, calibration error, share of neutral."""
    targets = torch.tensor([labels.index(clip.emo) for clip, _ in rows])
    log_probs = torch.stack([row for _, row in rows])
    found = score(targets, log_probs.argmax(dim=1), labels)
    keys = ("weighted_accuracy", "unweighted_accuracy", "num_utterances")
    result = {key: found[key] for key in keys}
    present = targets.unique()
    chosen = [i for i in present.tolist() if labels[i] in FOUR]
    kept = torch.isin(targets, torch.tensor(chosen))
    result["four_emotions"] = result["neutral"] = None
    if len(chosen) > 1:
        best = torch.tensor(chosen)[log_probs[kept][:, chosen].argmax(dim=1)]
        four = score(targets[kept], best, labels)
        result["four_emotions"] = four["unweighted_accuracy"]
    probabilities = log_probs.exp()
    result["ece"] = expected_calibration_error(probabilities, targets)
    if "neutral" in labels:
        called = log_probs.argmax(dim=1) == labels.index("neutral")
        result["neutral"] = called.double().mean().item()
    return result


def shown(found):
    """What the table of conditions shows of a corpus."""
    keys = ("four_emotions", "neutral", "unweighted_accuracy")
    return next(found[key] for key in keys if found[key] is not None)


def describe(result):
    """Markdown of examine.md."""
    columns = {
        "num_utterances": "clips",
        "weighted_accuracy": "WA",
        "unweighted_accuracy": "UA",
        "four_emotions": "UA of four",
        "ece": "ECE",
        "neutral": "called neutral",
    }
    parts = [tables.heading(result)]
    for name in ("corpora", "sexes", "lengths"):
        rows = [
            [group, *(found.get(key) for key in columns)]
            for group, found in result[name].items()
        ]
        head = [name, *columns.values()]
        parts.append(tables.markdown_table(head, rows))
    found = result["conditions"]
    corpora = list(found["as recorded"])
    rows = []
    for condition, cells in found.items():
        values = [shown(cells[x]) for x in corpora]
        fours = [x["four_emotions"] for x in cells.values()]
        fours = [x for x in fours if x is not None] or values
        rows.append([condition, *values, float(np.mean(fours))])
    head = [f"{result['clips']} clips of each", *corpora, "mean"]
    parts.append(tables.markdown_table(head, rows))
    parts.append(
        "UA of four: of neutral, happy, sad and angry, chosen among those; "
        "the last table shows it, and for read speech the share that is "
        "called neutral, which is not in the mean.\n"
    )
    return "\n".join(parts)


if __name__ == "__main__":
    run(main)

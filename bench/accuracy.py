#!/usr/bin/env python3
"""Accuracy of the exports, on the test part of a finished run.

> python bench/accuracy.py RUN DATA_FOLDER

RUN is the output folder of train.py. The model and its exports in float32 and
int8 classify the same files, one at a time.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import timing

from qieemo_sb.serving.onnx.classifier import OnnxClassifier
from qieemo_sb.serving.onnx.export import export_onnx
from qieemo_sb.serving.speechbrain import EncoderClassifier


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="output folder of train.py")
    parser.add_argument("data_folder", help="the corpus")
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args(arguments)
    entries = json.loads((options.run / "test.json").read_text()).values()
    wavs = [
        entry["wav"].replace("{data_root}", options.data_folder)
        for entry in entries
    ]
    truth = np.array([entry["emo"] for entry in entries])
    results = compare(options.run / "model", wavs, truth)
    timing.table(
        ["", "WA", "same answers", "greatest difference of a log-probability"],
        [
            [
                name,
                *(
                    f"{value:.2g}" if i == 2 else f"{value:.4f}"
                    for i, value in enumerate(result.values())
                ),
            ]
            for name, result in results.items()
        ],
    )
    about = {"run": options.run.name, "utterances": len(wavs)}
    timing.write(options, about, results)


def compare(model, wavs, truth):
    """{name: WA, share of torch's answers, greatest difference to torch's}."""
    torchs = EncoderClassifier.from_hparams(model)
    labels = np.array(torchs.labels)
    expected = np.concatenate([torchs.classify_file(w)[0] for w in wavs])
    answers = {"torch": expected}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("float32", "int8"):
            export_onnx(model, Path(folder) / name, name == "int8")
            export = OnnxClassifier.from_folder(Path(folder) / name)
            answers[name] = np.concatenate(
                [export.classify_file(wav)[0] for wav in wavs]
            )
    return {
        name: {
            "weighted_accuracy": float(
                (labels[found.argmax(1)] == truth).mean()
            ),
            "same_answers": float(
                (found.argmax(1) == expected.argmax(1)).mean()
            ),
            "greatest_difference": float(np.abs(found - expected).max()),
        }
        for name, found in answers.items()
    }


if __name__ == "__main__":
    main()

"""The command ``qieemo``: a trained model on the command line.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Arguments
    ---------
    arguments : sequence of str or None
        Of the command line; None: the process's own.

    Returns
    -------
    int
        0 if all was done, else 1.
    """
    parser = argparse.ArgumentParser("qieemo", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser(
        "predict",
        help="name the emotion of audio files",
        description="Prints path, emotion and probability, tab-separated.",
        allow_abbrev=False,
    )
    predict.add_argument(
        "model", help="folder of a trained model, or of its export"
    )
    predict.add_argument("wavs", nargs="+", help="audio files")
    predict.add_argument(
        "--device", default="cpu", help="e.g. cuda; an export runs on the cpu"
    )
    export = commands.add_parser(
        "export",
        help="write a trained model in a form that needs no torch to run",
        description="Writes a folder that `qieemo predict` answers from in "
        "less than a second.",
        allow_abbrev=False,
    )
    export.add_argument("model", help="folder of a trained model")
    export.add_argument("folder", help="where to write; replaced if an export")
    export.add_argument("--format", choices=["onnx"], default="onnx")
    export.add_argument(
        "--int8", action="store_true", help="compute linear layers in 8 bits"
    )
    options = parser.parse_args(arguments)
    if options.command == "export":
        return _export(options.model, options.folder, options.int8)
    return _predict(options.model, options.wavs, options.device)


def _export(model, folder, int8):
    """Export a model."""
    try:
        from qieemo_sb.export.folder import export_onnx

        print(export_onnx(model, folder, int8))
    except (ValueError, ImportError) as error:
        return _fail(error)
    return 0


def _fail(error):
    """Say why a model cannot be used: BundleError and the like."""
    if getattr(error, "name", None) == "onnx":
        error = "onnx is needed: pip install 'qieemo-sb[onnx]'"
    print(error, file=sys.stderr)
    return 1


def _predict(model, wavs, device):
    """Classify files; one that cannot be used does not stop the others."""
    # Imported here: `qieemo --help` need not wait for numpy.
    from qieemo_sb.sound import AudioError, read_sound

    try:
        classify = _load(model, device)
    except (ValueError, ImportError) as error:
        return _fail(error)
    failed = 0
    for wav in wavs:
        try:
            emotion, probability = classify(read_sound(wav))
        except AudioError as error:
            print(error, file=sys.stderr)
            failed = 1
        else:
            print(f"{wav}\t{emotion}\t{probability:.4f}")
    return failed


def _load(folder, device):
    """A function from samples [S] to emotion and probability.

    An export is run without torch, a bundle without SpeechBrain: to import
    them takes longer than to answer.
    """
    from qieemo_sb.folder import GRAPH

    if (Path(folder) / GRAPH).exists():
        return _load_export(folder)
    return _load_bundle(folder, device)


def _load_export(folder):
    from qieemo_sb.onnx_classifier import OnnxClassifier

    classifier = OnnxClassifier.from_folder(folder)

    def classify(wav):
        _, score, _, emotion = classifier.classify_batch(wav)
        return emotion[0], math.exp(score[0])

    return classify


def _load_bundle(folder, device):
    import torch

    from qieemo_sb.bundle import load_model

    model, labels = load_model(folder)
    model.to(device)

    @torch.inference_mode()
    def classify(wav):
        log_probs = model(torch.from_numpy(wav)[None].to(device)).log_probs[0]
        score, index = log_probs.max(dim=0)
        return labels[index], score.exp().item()

    return classify

"""The command ``qieemo``: a trained model on the command line.

Libraries are imported by the commands that need them: an export needs no
torch, a model no SpeechBrain, and help neither.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from qieemo_sb import __version__
from qieemo_sb.errors import AudioError, ModelFolderError, QieemoError


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
    options = _parser().parse_args(arguments)
    # A file's name need not be text; it is printed as it was given.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of the results has had enough
        # Python writes the rest when it ends: to nowhere, then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (QieemoError, ImportError, OSError) as error:
        message = str(error)
        if str(getattr(error, "name", "")).startswith("onnx"):
            message = "onnx is needed: pip install 'qieemo-sb[onnx]'"
        print(*message.splitlines(), file=sys.stderr)
    return 1


def _parser():
    parser = argparse.ArgumentParser("qieemo", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run, name, help):
        command = commands.add_parser(
            name, help=help, description=help, allow_abbrev=False
        )
        command.set_defaults(run=run)
        return command.add_argument

    text = "print path, emotion and probability of audio files, tab-separated"
    option = add(_predict, "predict", text)
    option("model", help="folder of a trained model, or of its export")
    option("wavs", nargs="+", help="audio files")
    option("--device", default="cpu", help="e.g. cuda; an export: always cpu")
    text = "least probability of an emotion; one below is printed as unknown"
    option("--threshold", type=float, default=0.0, help=text)
    text = "one person speaks in all files: adapt to their voice first"
    option("--same-speaker", action="store_true", help=text)

    text = "write a trained model in a form that needs no torch to run"
    option = add(_export, "export", text)
    option("model", help="folder of a trained model")
    option("folder", help="where to write; replaced if an export")
    option("--format", choices=["onnx"], default="onnx")
    option("--int8", action="store_true", help="linear layers in 8 bits")

    text = "draw a file's waveform, posteriorgram, tokens and emotion over time"
    option = add(_plot, "plot", text)
    option("model", help="folder of a model that transcribes")
    option("wav", help="audio file")
    option("image", help="picture to write: .png, .pdf or .svg")
    option("--text", help="transcript to align; default: the model's own")
    return parser


def _predict(options):
    """Classify files; one that cannot be used does not stop the others."""
    from qieemo_sb.serving.onnx.classifier import GRAPH

    exported = (Path(options.model) / GRAPH).exists()
    results = _results_of_export if exported else _results_of_model
    failed = 0
    for wav, result in zip(options.wavs, results(options), strict=True):
        if isinstance(result, AudioError):
            print(result, file=sys.stderr)
            failed = 1
        else:
            emotion, probability = result
            print(f"{wav}\t{emotion}\t{probability:.4f}")
    return failed


def _results_of_model(options):
    """Yield emotion and probability, or the error, of each file."""
    import torch

    from qieemo_sb.serving.classifier import load_model

    try:
        torch.zeros(1, device=options.device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise QieemoError(
            f"--device {options.device}: cannot be used here, name another, "
            f"such as cpu ({reason})"
        ) from error
    loaded = options.model, options.device, options.threshold
    classifier, wavs = load_model(*loaded), options.wavs
    if options.same_speaker:
        results = classifier.predict_conversation(wavs, ["one"] * len(wavs))
    else:  # one by one: each is printed as soon as it is known
        results = (next(classifier.predict([wav])) for wav in wavs)
    for result in results:
        if not isinstance(result, AudioError):
            result = result.emotion, max(result.scores.values())
        yield result


def _results_of_export(options):
    """As ``_results_of_model``, by an export."""
    from qieemo_sb.serving.onnx.classifier import OnnxClassifier

    if options.same_speaker:
        raise ModelFolderError(
            f"{options.model} is an export, which cannot adapt to a speaker: "
            "give the model that it was made of, or leave out --same-speaker."
        )
    classifier = OnnxClassifier.from_folder(
        options.model, threshold=options.threshold
    )
    for wav in options.wavs:
        try:
            _, score, _, emotions = classifier.classify_file(wav)
            yield emotions[0], math.exp(score[0])
        except AudioError as error:
            yield error


def _export(options):
    """Export a model."""
    from qieemo_sb.serving.onnx.export import export_onnx

    print(export_onnx(options.model, options.folder, options.int8))
    return 0


def _plot(options):
    """Draw a file's posteriorgram, alignment and emotion."""
    import torch

    from qieemo_sb.audio import read_audio
    from qieemo_sb.evaluation import plots
    from qieemo_sb.lobes.ppg import align, greedy
    from qieemo_sb.model import QieemoOutput
    from qieemo_sb.serving.classifier import load_model

    classifier = load_model(options.model)
    tokens, wav = classifier.tokens, read_audio(options.wav)
    output = classifier.analyse_batch(torch.from_numpy(wav))
    (indices,) = greedy(output.ppg, output.lengths)
    if options.text:
        indices = tokens.encode_as_ids(options.text)
    title, labels, emotions = tokens.decode_ids(indices), [], None
    if isinstance(output, QieemoOutput):
        labels, emotions = classifier.labels, output.frame_log_probs[0].exp()
        title = f"{title} ({labels[int(output.log_probs.argmax())]})"
    ppg = output.ppg[0]
    drawn = (wav, ppg.exp(), tokens.names, options.image)
    try:
        spans = align(ppg, indices) if indices else ()
        plots.ppg(*drawn, spans, emotions, labels, title=title)
    except ValueError as error:  # the text is too long, or the image's format
        raise QieemoError(str(error)) from error
    return 0


if __name__ == "__main__":
    sys.exit(main())

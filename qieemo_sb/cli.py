"""The command ``qieemo``: a trained model on the command line."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from qieemo_sb import __version__
from qieemo_sb.errors import AudioError, ModelFolderError


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
    parser.add_argument("--version", action="version", version=__version__)
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
    predict.add_argument(
        "--same-speaker",
        action="store_true",
        help="one person says all files: adapt to their voice first",
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
    plot = commands.add_parser(
        "plot",
        help="draw what is said and how, frame by frame",
        description="Writes a picture: waveform, phonetic posteriorgram, "
        "aligned tokens, and the emotion of each moment.",
        allow_abbrev=False,
    )
    plot.add_argument("model", help="folder of a model that reads")
    plot.add_argument("wav", help="audio file")
    plot.add_argument("image", help="picture to write: .png, .pdf or .svg")
    plot.add_argument("--text", help="transcript to align; else what is read")
    options = parser.parse_args(arguments)
    try:
        code = _run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the answers has heard enough
        # Python writes what is left when it ends: to nowhere, then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options):
    """Do what the options say → exit code."""
    # A file's name need not be text; what was given is what is printed.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")
    if options.command == "export":
        return _export(options.model, options.folder, options.int8)
    if options.command == "plot":
        return _plot(options.model, options.wav, options.image, options.text)
    if options.same_speaker:
        return _converse(options.model, options.wavs, options.device)
    return _predict(options.model, options.wavs, options.device)


def _export(model, folder, int8):
    """Export a model."""
    try:
        from qieemo_sb.serving.onnx.export import export_onnx

        print(export_onnx(model, folder, int8))
    except (ValueError, ImportError, OSError) as error:
        return _fail(error)
    return 0


def _fail(error):
    """Say why a model cannot be used: ModelFolderError and the like."""
    if str(getattr(error, "name", "")).startswith("onnx"):
        error = "onnx is needed: pip install 'qieemo-sb[onnx]'"
    print(error, file=sys.stderr)
    return 1


def _predict(model, wavs, device):
    """Classify files; one that cannot be used does not stop the others."""
    # Imported here: `qieemo --help` need not wait for numpy.

    try:
        classify = _load(model, device)
    except (ValueError, ImportError) as error:
        return _fail(error)
    failed = 0
    for wav in wavs:
        try:
            emotion, probability = classify(wav)
        except AudioError as error:
            print(error, file=sys.stderr)
            failed = 1
        else:
            print(f"{wav}\t{emotion}\t{probability:.4f}")
    return failed


def _converse(model, wavs, device):
    """Classify files of one speaker, adapted to them."""
    from qieemo_sb.serving.folder import GRAPH

    try:
        if (Path(model) / GRAPH).exists():
            raise ModelFolderError(
                f"{model} is an export, which cannot adapt to a speaker: give "
                "the model that it was made of, or leave --same-speaker out."
            )
        from qieemo_sb.serving.speechbrain import EncoderClassifier

        # A path: a name that is mistyped is not to be looked up on a hub.
        classifier = EncoderClassifier.from_hparams(
            Path(model), run_opts={"device": _usable(device)}
        )
        answers = classifier.classify_conversation(wavs, ["one"] * len(wavs))
    except (ValueError, ImportError) as error:
        return _fail(error)
    failed = 0
    for wav, answer in zip(wavs, answers, strict=True):
        if isinstance(answer, AudioError):
            print(answer, file=sys.stderr)
            failed = 1
        else:
            _, score, _, emotion = answer
            print(f"{wav}\t{emotion[0]}\t{score.exp().item():.4f}")
    return failed


def _load(folder, device):
    """A function from a file to its emotion and probability.

    An export is run without torch, a bundle without SpeechBrain: to import
    them takes longer than to answer.
    """
    from qieemo_sb.serving.folder import GRAPH

    if (Path(folder) / GRAPH).exists():
        return _load_export(folder)
    return _load_bundle(folder, device)


def _load_export(folder):
    from qieemo_sb.serving.onnx.classifier import OnnxClassifier

    classifier = OnnxClassifier.from_folder(folder)

    def classify(wav):
        _, score, _, emotion = classifier.classify_file(wav)
        return emotion[0], math.exp(score[0])

    return classify


def _load_bundle(folder, device):
    import torch

    from qieemo_sb.serving.bundle import load_model
    from qieemo_sb.serving.onednn import speed_up

    model, labels = load_model(folder)
    speed_up(model.to(_usable(device)))

    @torch.inference_mode()
    def classify(wav):
        windows = (window.to(device) for window in _windows(wav))
        log_probs = model.classifier(model.embed_windows(windows))[0]
        score, index = log_probs.max(dim=0)
        return labels[index], score.exp().item()

    return classify


def _usable(device):
    """A device's name; ValueError if nothing can be computed there."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device}: {reason}") from error
    return device


def _windows(wav):
    """A file's audio in windows; of a long one, not all are held at once.

    Only what is long, and takes its time anyway, waits for SpeechBrain.
    """
    import torch

    from qieemo_sb.audio import audio_seconds, read_sound, read_windows
    from qieemo_sb.frames import SAMPLE_RATE, WINDOW_SAMPLES

    if (audio_seconds(wav) or 0) > WINDOW_SAMPLES / SAMPLE_RATE:
        return read_windows(wav)
    return [torch.from_numpy(read_sound(wav))]


def _plot(model, wav, image, text):
    """Draw a file's posteriorgram, alignment and emotion."""
    from qieemo_sb.evaluation import plots
    from qieemo_sb.lobes.ppg import align, greedy
    from qieemo_sb.serving.speechbrain import EncoderClassifier

    try:
        classifier = EncoderClassifier.from_hparams(Path(model))
        tokens = classifier.tokens
        sound = classifier.load_audio(wav)
        said = classifier.analyse_batch(sound)
        (indices,) = greedy(said.ppg, said.lengths)
        indices = tokens.encode_as_ids(text) if text else indices
        spans = align(said.ppg[0], indices) if indices else ()
        title, moods, labels = tokens.decode_ids(indices), None, []
        if said.log_probs is not None:
            labels, moods = classifier.labels, said.frame_log_probs[0].exp()
            title = f"{title} ({labels[int(said.log_probs.argmax())]})"
        ppg = said.ppg[0].exp()
        plots.ppg(
            sound, ppg, tokens.names, image, spans, moods, labels, title=title
        )
    except (ValueError, OSError) as error:  # bundle, file, text or picture
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command ``qieemo``: a trained model on the command line.

Libraries are imported by the commands that need them: an export needs no
torch, a model no SpeechBrain, and help neither.
"""

import argparse
import contextlib
import difflib
import faulthandler
import os
import sys
from collections.abc import Sequence

from qieemo_sb import __version__
from qieemo_sb.errors import (
    AudioError,
    ModelFolderError,
    QieemoError,
    shown,
)
from qieemo_sb.serving.formats import FORMATS, TIMELINES
from qieemo_sb.serving.models import DEFAULT
from qieemo_sb.serving.server.command import add_options

PICTURE = "png"  # a timeline's form beside those that are text
MODEL = "a model folder, a model that ships, or user/name of one on the hub"
# Of packages that not everybody has, the extra that installs them.
EXTRAS = {
    "onnx": "onnx",
    "onnxscript": "onnx",
    "ray": "ray",
    "gradio": "demo-page",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
}


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
    if arguments is None:
        _keep_stderr_for_python()
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
        package = str(getattr(error, "name", "")).partition(".")[0]
        if extra := EXTRAS.get(package):
            message = f"{package} is needed: pip install 'qieemo-sb[{extra}]'"
        _complain(message)
    return 1


def _keep_stderr_for_python():
    """Silence libraries in C, for this process.

    libmpg123 prints what it mends in an MP3, and not in which file.
    """
    with contextlib.suppress(OSError):  # it may be closed
        sys.stderr = open(os.dup(2), "w", 1, errors="backslashreplace")
        faulthandler.enable()  # a crash is told all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, which says where help is."""

    commands: dict[str, argparse.ArgumentParser]

    def parse_args(self, args=None, namespace=None):
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = self.commands[options.command]
            known = command._option_string_actions
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            command.error(f"{unknown[0]} is no option{hint}")
        return options

    def error(self, message):
        self.exit(
            2, f"{self.prog}: {shown(message)} (see {self.prog} --help)\n"
        )


def _parser():
    parser = _Parser("qieemo", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", dest="command"
    )
    parser.commands = commands.choices

    def add(run, name, help):
        command = commands.add_parser(
            name, help=help, description=help, allow_abbrev=False
        )
        command.set_defaults(run=run)
        return command.add_argument

    _add_predict(add)
    add_options(add(_serve, "serve", "answer over HTTP and websockets"), MODEL)
    text = "list the models that ship"
    add(_models, "models", text)
    text = "print the card of a model"
    option = add(_info, "info", text)
    option("model", nargs="?", default=DEFAULT, help=MODEL)

    text = "write a trained model in a form that needs no torch to run"
    option = add(_export, "export", text)
    option("model", help=MODEL)
    option("folder", help="where to write; replaced if an export")
    option("--int8", action="store_true", help="linear layers in 8 bits")

    text = "upload a model folder to the Hugging Face hub"
    option = add(_push, "push", text)
    option("folder", help="a model folder")
    option("repo", help="user/name; made if it is not there")
    option("--private", action="store_true", help="for its owner only")

    text = "draw a file's waveform, posteriorgram, tokens and emotion over time"
    option = add(_plot, "plot", text)
    option("model", help="folder of a model that transcribes")
    option("wav", help="audio file")
    option("image", help="picture to write: .png, .pdf or .svg")
    option("--text", help="transcript to align; default: the model's own")

    text = "serve a page to upload or record speech, and see its emotions"
    option = add(_demo, "demo", text)
    option("--model", default=DEFAULT, help=f"{MODEL}; default: {DEFAULT}")
    option("--device", default="cpu", help="e.g. cuda")
    text = "address to listen at; 0.0.0.0: other machines may ask, too"
    option("--host", default="127.0.0.1", help=text)
    option("--port", type=int, default=7860)
    return parser


def _add_predict(add):
    """Options of ``qieemo predict``."""
    option = add(
        _predict, "predict", "predict the emotion of audio files of any kind"
    )
    text = (
        "files, folders, patterns; - for a list on standard input; put -- "
        "before names that begin with -"
    )
    option("paths", nargs="+", metavar="PATH", help=text)
    text = f"{MODEL}, or of an export; default: {DEFAULT}"
    option("--model", default=DEFAULT, help=text)
    option("--device", default="cpu", help="e.g. cuda; an export: always cpu")
    text = "default: as --output ends, else table"
    option("--format", choices=FORMATS, help=text)
    option("--output", metavar="FILE", help="default: standard output")
    text = "of all emotions, not of the best alone; JSON always has them"
    option("--scores", action="store_true", help=text)
    text = "predictions less probable than this come out as unknown"
    option("--unknown-below", type=float, default=0.0, metavar="P", help=text)
    text = "one person speaks in all files: adapt to their voice first"
    option("--same-speaker", action="store_true", help=text)
    text = (
        "segments of each file, in place of a line for each; with --output "
        "beside it, in the folder FILE.timeline"
    )
    option("--timeline", choices=[*TIMELINES, PICTURE], help=text)
    text = "RTTM file of who speaks when in the one file, with --timeline"
    option("--turns", metavar="RTTM", help=text)
    text = "on the machines of a Ray cluster, which all see the files"
    option("--ray", action="store_true", help=text)


def _predict(options):
    """Classify files; one that cannot be used does not stop the others."""
    from qieemo_sb.serving import batch
    from qieemo_sb.serving.cluster import predict_with_ray
    from qieemo_sb.serving.models import load_any

    files = batch.find_files(options.paths, sys.stdin)
    # With Ray this process computes nothing, but names what is wrong.
    device = "cpu" if options.ray else options.device
    classifier = load_any(options.model, device, options.unknown_below)
    needs = {"--same-speaker": options.same_speaker, "--turns": options.turns}
    needs["--timeline"] = options.timeline
    if not hasattr(classifier, "adapt") and any(needs.values()):
        raise ModelFolderError(
            f"{options.model} is an export, which cannot do "
            f"{' and '.join(k for k, x in needs.items() if x)}: give the model "
            "that it was made of."
        )
    if options.turns and (not options.timeline or len(files) > 1):
        raise QieemoError("--turns is for --timeline of one file.")
    if options.ray and (options.timeline or options.same_speaker):
        raise QieemoError("--ray is without --timeline and --same-speaker.")
    errors = {}
    if options.output or not options.timeline:
        if options.same_speaker:
            who = ["one"] * len(files)
            results = iter(classifier.predict_conversation(files, who))
        elif options.ray:
            results = predict_with_ray(
                files, options.model, options.device, options.unknown_below
            )
        else:
            results = classifier.predict(files)
        bar = _progress(results, len(files))
        kind = options.format or batch.format_of(options.output)
        with batch.output(options.output) as out:
            failed = batch.write_predictions(bar, out, kind, options.scores)
        errors = {error.path: error for error in failed}
    if options.timeline:
        errors |= _timelines(classifier, files, options)
    for error in errors.values():
        _complain(str(error))
    if errors and len(files) > 1:
        text = f"{len(errors)} of {len(files)} files failed, see above."
        print(text, file=sys.stderr)
    return int(bool(errors))


def _progress(results, count):
    """With a bar on a terminal; nothing in a log file, or for one file."""
    if count == 1 or not sys.stderr.isatty():
        return results
    from tqdm import tqdm  # takes a tenth of an export's start

    return tqdm(results, total=count, leave=False)


def _timelines(classifier, files, options):
    """Write the timelines of files → errors by path."""
    from qieemo_sb.serving import batch, formats
    from qieemo_sb.serving.picture import timeline_picture

    kind, errors, segments = options.timeline, {}, []
    alone = kind == PICTURE or (len(files) > 1 and kind in formats.SUFFIXES)
    if not options.output and alone:
        raise QieemoError(
            f"A timeline in {kind} is a file for each recording: give --output."
        )
    paths = {}
    if options.output:
        paths = batch.timeline_paths(files, options.output, kind)
    for file in _progress(files, len(files)):
        try:
            found = classifier.timeline(file, options.turns)
            figure = timeline_picture(file, found) if kind == PICTURE else None
        except AudioError as error:
            errors[error.path] = error
            continue
        if options.output:
            with batch.output(paths[file]) as out:
                if figure:
                    figure.savefig(out.buffer, format=PICTURE)
                else:
                    out.write(formats.format_timeline(found, kind))
        segments += [] if options.output else found
    if not options.output:
        print(formats.format_timeline(segments, kind), end="")
    return errors


def _serve(options):
    """Serve a model until stopped."""
    from qieemo_sb.serving.server.command import serve

    return serve(options)


def _complain(message):
    """Print an error on one line."""
    print(*map(shown, message.splitlines()), file=sys.stderr)


def _models(options):
    """List the models that ship."""
    from qieemo_sb.serving.models import shipped_models

    for name, folder in shipped_models().items():
        print(f"{name}\t{folder}")
    return 0


def _info(options):
    """Print the card of a model."""
    from qieemo_sb.serving.folder import CARD, read_text
    from qieemo_sb.serving.models import find_model

    print(read_text(find_model(options.model) / CARD), end="")
    return 0


def _export(options):
    """Export a model."""
    from qieemo_sb.serving.models import find_model
    from qieemo_sb.serving.onnx.export import export_onnx

    model = find_model(options.model)
    print(export_onnx(model, options.folder, options.int8))
    return 0


def _push(options):
    """Upload a model folder."""
    from qieemo_sb.serving.hub import push_to_hub

    print(push_to_hub(options.folder, options.repo, options.private))
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


def _demo(options):
    """Serve the page until the user interrupts it."""
    import signal

    from qieemo_sb.serving.classifier import load_model
    from qieemo_sb.serving.page import serve_page

    classifier = load_model(options.model, options.device)
    # To end the process is to interrupt it: uploaded files are deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve_page(classifier, options.host, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command ``qieemo``: a trained model on the command line.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Arguments
    ---------
    arguments : sequence of str or None
        Of the command line; None: the process's own.

    Returns
    -------
    int
        0 if every file was answered for, else 1.
    """
    parser = argparse.ArgumentParser("qieemo", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser(
        "predict",
        help="name the emotion of audio files",
        description="Prints path, emotion and probability, tab-separated.",
        allow_abbrev=False,
    )
    predict.add_argument("model", help="folder of a trained model")
    predict.add_argument("wavs", nargs="+", help="audio files")
    predict.add_argument("--device", default="cpu", help="e.g. cuda")
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
    if options.command == "plot":
        return _plot(options.model, options.wav, options.image, options.text)
    return _predict(options.model, options.wavs, options.device)


def _predict(model, wavs, device):
    """Classify files; one that cannot be used does not stop the others."""
    # Imported here: `qieemo --help` need not wait for torch.
    from qieemo_sb.audio import AudioError
    from qieemo_sb.inference import EncoderClassifier

    try:
        classifier = EncoderClassifier.from_hparams(
            model, run_opts={"device": device}
        )
    except ValueError as error:  # BundleError and UntrustedYaml are some
        print(error, file=sys.stderr)
        return 1
    failed = 0
    for wav in wavs:
        try:
            _, score, _, text_lab = classifier.classify_file(wav)
        except AudioError as error:
            print(error, file=sys.stderr)
            failed = 1
        else:
            print(f"{wav}\t{text_lab[0]}\t{score.exp().item():.4f}")
    return failed


def _plot(model, wav, image, text):
    """Draw a file's posteriorgram, alignment and emotion."""
    from qieemo_sb import plots
    from qieemo_sb.inference import EncoderClassifier
    from qieemo_sb.lobes.ppg import align, greedy

    try:
        classifier = EncoderClassifier.from_hparams(model)
        tokens = classifier.tokens
        sound = classifier.load_audio(wav)
        said = classifier.analyse_batch(sound)
        (indices,) = greedy(said.ppg, said.lengths)
        indices = tokens.encode_as_ids(text) if text else indices
        spans = align(said.ppg[0], indices) if indices else ()
    except ValueError as error:  # of the bundle, the file or the text
        print(error, file=sys.stderr)
        return 1
    title, moods, labels = tokens.decode_ids(indices), None, []
    if said.log_probs is not None:
        labels, moods = classifier.labels, said.frame_log_probs[0].exp()
        title = f"{title} ({labels[int(said.log_probs.argmax())]})"
    ppg = said.ppg[0].exp()
    plots.ppg(
        sound, ppg, tokens.names, image, spans, moods, labels, title=title
    )
    return 0

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
    options = parser.parse_args(arguments)
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

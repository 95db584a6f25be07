"""The command ``qieemo serve``: its options, and the server's start."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Callable
from pathlib import Path

from qieemo_sb.errors import QieemoError
from qieemo_sb.serving.folder import read_text
from qieemo_sb.serving.models import DEFAULT, load_any
from qieemo_sb.serving.server.limits import Limits

SHUTDOWN_SECONDS = 10  # for requests in work when the server is stopped
LARGEST_MESSAGE = 2**20  # bytes of a stream's message
LIMITS = {  # --max-NAME
    "megabytes": "size of a request",
    "minutes": "length of a recording or stream",
    "waiting": "recordings at once",
    "receive_seconds": "time for a request to arrive",
    "streams": "streams at once",
    "idle_seconds": "time in which a stream sends nothing",
}


def add_options(option: Callable, model: str) -> None:
    """Add the options of the command to a parser.

    Arguments
    ---------
    option : callable
        A parser's ``add_argument``.
    model : str
        Description of ``--model``.
    """
    limits = Limits()
    option("--model", default=DEFAULT, help=f"{model}; default: {DEFAULT}")
    option("--device", default="cpu", help="e.g. cuda; an export: always cpu")
    text = "default: this machine alone; 0.0.0.0: all that reach it"
    option("--host", default="127.0.0.1", help=text)
    option("--port", type=int, default=8000, help="default: 8000")
    text = "file with a word that callers have to send"
    option("--token-file", metavar="FILE", help=text)
    for field, text in LIMITS.items():
        default = getattr(limits, field)
        option(
            f"--max-{field.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar="N",
            help=f"{text}; default: {default:g}",
        )


def serve(options: argparse.Namespace) -> int:
    """Serve until stopped; options as of ``add_options``."""
    import uvicorn

    from qieemo_sb.serving.server.app import create_app

    limits = Limits(**{x: getattr(options, f"max_{x}") for x in LIMITS})
    token = read_token(options.token_file) if options.token_file else None
    if token is None and not _is_loopback(options.host):
        text = (
            f"Anyone who reaches {options.host}:{options.port} may use this "
            "server: --token-file asks for a token."
        )
        print(text, file=sys.stderr)
    predictor = load_any(options.model, options.device)
    uvicorn.run(
        create_app(predictor, limits, token),
        host=options.host,
        port=options.port,
        ws_max_size=LARGEST_MESSAGE,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return 0


def read_token(path: str | Path) -> str:
    """The token in a file, without white space around it.

    Raises
    ------
    QieemoError
        The file has none, or one that a header cannot carry.
    """
    token = read_text(path).strip()
    if not token or not token.isascii() or not token.isprintable():
        raise QieemoError(
            f"{path} is to hold one token, a line of ASCII: write one, such "
            "as that of openssl rand -hex 32."
        )
    return token


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""A caller's recording: received, decoded, and removed again."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from qieemo_sb.audio import check_signal, read_blocks
from qieemo_sb.frames import WINDOW_SAMPLES
from qieemo_sb.serving.batch import AUDIO
from qieemo_sb.serving.server.limits import CLOSE, Limits, Refusal

FIELD = "file"  # of the form
FORM = "multipart/form-data"
NO_FILE = (
    f"The form has no {FIELD}: send the recording as {FORM}, "
    f"curl -F {FIELD}=@a.wav."
)
# What the page /docs shows of it.
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {"type": "string", "format": "binary"}
                    },
                }
            }
        },
    }
}


@asynccontextmanager
async def received(
    request: Request, limits: Limits
) -> AsyncIterator[tuple[Path, str]]:
    """The file in a request's form, on disk as long as it is needed.

    Arguments
    ---------
    request : Request
    limits : Limits

    Yields
    ------
    path : Path
        Where it is, under a name of ours.
    name : str
        The caller's name for it.

    Raises
    ------
    Refusal
        408 too slow, 413 too large, 422 no file.
    HTTPException
        400 no form.
    """
    with tempfile.TemporaryDirectory(prefix="qieemo-") as folder:
        form = await _form(request, limits)
        try:
            file = form.get(FIELD)
            if not isinstance(file, UploadFile):
                raise Refusal(422, NO_FILE)
            name = file.filename or FIELD
            # Some formats are known by their ending alone.
            ending = Path(name).suffix.lower()
            path = Path(folder) / "recording"
            if ending[1:] in AUDIO:
                path = path.with_suffix(ending)
            await run_in_threadpool(_save, file.file, path)
        finally:
            await form.close()
        yield path, name


async def _form(request, limits):
    """The form of a request, within limits of size and time."""
    given = request.headers.get("content-type", "")
    kind, options = parse_options_header(given)
    if kind != FORM.encode():  # others would be read into memory
        raise Refusal(422, NO_FILE, CLOSE)
    # Some of Python's codecs make text that JSON cannot carry, or fail oddly.
    if options.get(b"charset", b"utf-8").lower() != b"utf-8":
        message = "Names in a form are UTF-8: leave out its charset."
        raise Refusal(422, message, CLOSE)
    size = 0

    async def receive():
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        limits.check_bytes(size)
        return message

    announced = request.headers.get("content-length", "")
    limits.check_bytes(int(announced) if announced.isdecimal() else 0)
    seconds = limits.receive_seconds
    try:
        form = Request(request.scope, receive).form(max_files=1)
        return await asyncio.wait_for(form, seconds)
    except (TimeoutError, asyncio.TimeoutError) as error:
        message = (
            f"The request took longer than {seconds:g} s, the limit of this "
            "server: send it compressed or in parts."
        )
        raise Refusal(408, message, CLOSE) from error
    except ClientDisconnect as error:
        raise Refusal(400, "The request was broken off.") from error


def _save(file, path):
    with open(path, "wb") as out:
        shutil.copyfileobj(file, out)


def decode(path: Path, limits: Limits) -> np.ndarray | None:
    """Samples [S] of a recording of at most 30 s; None for a longer one.

    Raises
    ------
    AudioError
        It cannot be used.
    Refusal
        413, it is too long.
    """
    blocks, size = [], 0
    # Its header may promise anything: a long one is decoded to its end.
    for block in limits.checked(read_blocks(path)):
        size += len(block)
        if size <= WINDOW_SAMPLES:
            blocks.append(block)
        else:
            blocks.clear()
    if size > WINDOW_SAMPLES:
        return None
    signal = np.concatenate(blocks)
    check_signal(path, signal)
    return signal

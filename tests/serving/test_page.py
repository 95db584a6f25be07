"""The page of ``qieemo demo``, asked by gradio's client.

tools/page_pictures.py does the same, and more, in a browser.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import gradio_client
import numpy as np
import pytest
import soundfile
import torch
from clips import RATE, noise, sentence
from gradio_client import handle_file
from gradio_client.exceptions import AppError

from qieemo_sb.cli import main
from qieemo_sb.serving.classifier import load_model

# The command, which names on its last line what it asked of other machines.
CODE = """
import sys
from qieemo_sb.cli import main

others = []
def watch(event, details):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = details[0] if "addr" in event else details[1][0]
        if host not in ("127.0.0.1", "localhost"):
            others.append(host)

sys.addaudithook(watch)
status = main(["demo", *sys.argv[1:]])
print("asked", others, "status", status)
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A client of the page, which a process of its own serves.

    When it is stopped, no file is left, and no other machine was asked.
    """
    folder = tmp_path_factory.mktemp("page")
    uploads = folder / "uploads"
    uploads.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "--port", str(port)],
        env={**os.environ, "TMPDIR": str(uploads), "HF_HUB_OFFLINE": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert f"The page is at http://127.0.0.1:{port}/ until" in line
        yield gradio_client.Client(
            f"http://127.0.0.1:{port}/",
            verbose=False,
            analytics_enabled=False,
            download_files=folder / "answers",
        )
        (private,) = uploads.glob("qieemo-*")
        assert [*private.rglob("*.wav")] and private.stat().st_mode & 0o77 == 0
    finally:
        process.terminate()
        rest, _ = process.communicate()
    assert "asked [] status 0" in rest
    assert not [x for x in uploads.rglob("*") if x.is_file()]


@pytest.fixture(scope="module")
def ours():
    return load_model("open")


@pytest.fixture
def talk(write_wav):
    """Two sentences a second apart."""
    sound = [sentence(), np.zeros(RATE), sentence() + noise(1.65)]
    return write_wav(np.concatenate(sound), name="a talk.wav")


def scores(answer):
    """Scores of the whole recording, by emotion."""
    return {x["label"]: x["confidence"] for x in answer[0]["confidences"]}


def test_a_recording(page, ours, talk):
    answer = page.predict(handle_file(talk), api_name="/classify")
    _, picture, table, *files = answer
    (whole,) = ours(talk)
    assert scores(answer) == pytest.approx(whole.scores, abs=1e-5)
    segments = ours.timeline(talk)
    assert [row[2] for row in table["data"]] == [x.emotion for x in segments]
    start, end = (round(RATE * x) for x in (segments[0].start, segments[0].end))
    wav = torch.from_numpy(soundfile.read(talk, dtype="float32")[0])
    (text,), _ = ours.transcribe_batch(wav[start:end])
    assert table["data"][0][4] == text
    assert Path(picture).read_bytes()[1:4] == b"PNG"
    given = {Path(x).suffix: Path(x) for x in files}
    assert {".csv", ".vtt", ".TextGrid", ".rttm", ".json"} <= {*given}
    rows = json.loads(given[".json"].read_text("utf-8"))
    assert [x["end"] for x in rows] == pytest.approx([x.end for x in segments])
    assert {x["file"] for x in rows} == {"a talk.wav"}  # and no folder


def test_a_speaker_is_adapted_to_and_forgotten(page, ours, talk, write_wav):
    clips = [write_wav(0.1 * sentence(), name=f"{i}.wav") for i in range(2)]
    (plain,) = ours(talk)
    (adapted,) = ours.predict(talk, ours.adapt(clips))
    assert plain.scores != pytest.approx(adapted.scores, abs=1e-3)
    status = page.predict([*map(handle_file, clips)], api_name="/adapt")
    assert "speaker of 2 clips" in status
    for expected in (adapted, plain):
        answer = page.predict(handle_file(talk), api_name="/classify")
        assert scores(answer) == pytest.approx(expected.scores, abs=1e-5)
        page.predict(api_name="/forget")


def test_silence_has_no_segments(page, write_wav):
    silence = write_wav(np.zeros(2 * RATE), name="silence.wav")
    answer = page.predict(handle_file(silence), api_name="/classify")
    assert scores(answer) and answer[2]["data"] == []


def test_an_error_is_a_sentence(page, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_text("no sound")
    for value, name in (
        (handle_file(broken), "/classify"),
        ([handle_file(broken)], "/adapt"),
    ):
        with pytest.raises(AppError, match="broken.wav") as error:
            page.predict(value, api_name=name)
        message = str(error.value)
        assert "/" not in message and "Traceback" not in message
    with pytest.raises(AppError, match="Add one or more clips"):
        page.predict([], api_name="/adapt")


@pytest.fixture
def demo(model_folder, capsys):
    """Run ``qieemo demo`` on a port → its status and what it complains of."""

    def run(port):
        status = main(["demo", "--model", str(model_folder), "--port", port])
        return status, capsys.readouterr().err

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


# gradio leaves the socket open on which it failed to listen.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_port_that_is_taken_is_named(demo):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, error = demo(port)
    assert status == 1 and error.count("\n") == 1
    assert f"--port {port}: cannot listen there" in error


def test_without_gradio_its_extra_is_named(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    status, error = demo("7860")
    assert status == 1
    assert error == "gradio is needed: pip install 'qieemo-sb[demo-page]'\n"

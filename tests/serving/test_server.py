"""The server: answers of the command line, within limits, and no traces."""

import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
import soundfile
from clips import write_clips
from servers import running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from qieemo_sb.cli import main
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.models import load_any
from qieemo_sb.serving.server.app import create_app
from qieemo_sb.serving.server.limits import Limits
from qieemo_sb.serving.server.worker import Worker

ROUTE = "/v1/emotions"
# The beginning of a form, for bodies that are sent piece by piece.
FORM = {"content-type": "multipart/form-data; boundary=x"}
HEAD = b"""--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r
\r\n"""


@pytest.fixture(scope="module")
def classifier(source):
    return load_model(source)


@pytest.fixture(scope="module")
def client(classifier):
    """Client of a server with the usual limits."""
    with running(create_app(classifier)) as client:
        yield client


@pytest.fixture
def limited(classifier):
    """Make a client of a server with limits of its own."""
    with contextlib.ExitStack() as stack:

        def start(token=None, **limits):
            app = create_app(classifier, Limits(**limits), token)
            return stack.enter_context(running(app))

        yield start


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Paths of clips of all kinds, by name."""
    return write_clips(tmp_path_factory.mktemp("clips"))


def post(client, path, **options):
    with open(path, "rb") as file:
        return client.post(ROUTE, files={"file": file}, **options)


def metric(client, name):
    """Value of a metric; the sum of all its labels' values."""
    text = client.get("/metrics").text
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M)
    return sum(map(float, found))


def refused(response, status, *words):
    """Check a refusal: its code, and a message with some words."""
    assert response.status_code == status, response.text
    message = response.json()["detail"]
    assert all(word in message for word in words), message
    return message


def address(client):
    return str(client.base_url).replace("http", "ws") + "/v1/stream"


def reached(client):
    """A socket that is connected to a client's server."""
    return socket.create_connection(("127.0.0.1", client.base_url.port))


def announce(there, size):
    """Send the head of a request whose body is to have so many bytes."""
    head = {"Host": "x", "Content-Length": size, **FORM}
    lines = [f"POST {ROUTE} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
    there.sendall("".join(f"{x}\r\n" for x in [*lines, ""]).encode())


def open_files(folder):
    """Files of a folder that this process has open, deleted ones too."""
    paths = [os.path.realpath(x) for x in Path("/proc/self/fd").glob("*")]
    return [path for path in paths if path.startswith(str(folder))]


def stream(client, signal, rate=16_000, kind="float32", chunk=5_000, **start):
    """Predictions for a signal that is sent in chunks."""
    messages = []
    with connect(address(client)) as there:
        there.send(json.dumps({"rate": rate, "format": kind, **start}))
        for first in range(0, len(signal), chunk):
            there.send(signal[first : first + chunk].tobytes())
        there.send("end")
        with contextlib.suppress(ConnectionClosed):
            while True:
                messages.append(json.loads(there.recv(timeout=30)))
    return messages


def test_answers_are_those_of_the_command_line(client, clips, source, capsys):
    paths = list(map(str, clips.values()))
    command = ["predict", "--format", "json", "--model", str(source)]
    assert main([*command, *paths]) == 0
    expected = json.loads(capsys.readouterr().out)
    for name, path, row in zip(clips, paths, expected, strict=True):
        found = post(client, path).json()
        assert found["file"] == f"{name}.wav"
        assert found["scores"] == pytest.approx(row["scores"], abs=2e-6)
        assert {**found, "file": path, "scores": row["scores"]} == row


def test_timeline(client, clips, classifier):
    for path in (clips["40 s"], clips["silence"]):
        found = post(client, path, params={"timeline": True}).json()
        expected = [p.to_dict() for p in classifier.timeline(path)]
        assert found == [{**row, "file": path.name} for row in expected]
    assert found == []


def test_an_export_has_no_timeline(exported, clips):
    with running(create_app(load_any(exported))) as client:
        assert post(client, clips["40 s"]).json()["end"] == 43.6
        response = post(client, clips["noise"], params={"timeline": True})
        refused(response, 501, "export")


def test_each_of_many_gets_its_own(client, classifier, sound, tmp_path):
    sizes = np.random.default_rng(0).integers(4_000, 100_000, 24)
    paths = []
    for seed, size in enumerate([*sizes, 600_000]):
        paths.append(tmp_path / f"{seed}.wav")
        soundfile.write(paths[-1], sound(int(size), seed).numpy(), 16_000)
    with ThreadPoolExecutor(len(paths)) as pool:
        found = pool.map(lambda path: post(client, path).json(), paths)
    for path, row, result in zip(paths, found, classifier(paths), strict=True):
        assert row["file"] == path.name
        assert row["scores"] == pytest.approx(result.scores, abs=1e-5)


def test_recordings_of_like_length_are_a_batch(classifier, sound):
    sizes = []
    worker, gate = Worker(classifier, sizes.append), threading.Event()
    worker.call(gate.wait)  # all the others come meanwhile
    seconds = [2.0, 9.0, 2.1, 1.9, 9.5, 4.0]
    signals = [sound(round(16_000 * s), 3).numpy() for s in seconds]
    futures = [worker.classify(signal) for signal in signals]
    futures[-1].cancel()
    gate.set()
    for future, expected in zip(
        futures[:-1], classifier(signals), strict=False
    ):
        assert future.result()[0].scores == pytest.approx(
            expected.scores, abs=1e-5
        )
    worker.stop()
    assert sizes == [3, 2]
    assert worker.classify(signals[0]).cancelled()


def test_a_long_recording_lets_others_through(classifier, sound):
    worker, done = Worker(classifier), []

    def long():
        future = worker.classify(sound(16_000).numpy())
        while not future.done():
            yield
        done.append(future.result())
        yield from iter(int, 1)  # for ever, but for its end

    future = worker.run(long())
    while not done:
        time.sleep(0.01)
    future.cancel()
    assert worker.call(lambda: "alive").result() == "alive"
    failing = worker.call(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.result()
    worker.stop()


def test_a_recording_that_cannot_be_used(client, tmp_path):
    broken = tmp_path / "my talk.mp3"
    broken.write_bytes(b"no sound" * 99)
    message = refused(post(client, broken), 422, "my talk.mp3 cannot be")
    assert "qieemo-" not in message and "recording.mp3" not in message
    soundfile.write(tmp_path / "a.wav", np.zeros(9), 16_000)
    refused(post(client, tmp_path / "a.wav"), 422, "a.wav is too short")
    refused(client.post(ROUTE, files={"audio": b""}), 422, "no file")
    refused(client.post(ROUTE, data={"file": "a.wav"}), 422, "no file")
    refused(client.post(ROUTE, content=bytes(10**6)), 422, "no file")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        HEAD,  # the end is missing
        b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--\r\n",
        HEAD + b"RIFF\r\n" + HEAD + b"RIFF\r\n--x--\r\n",  # two files
        b"--x\r\n" + b"a: b\r\n" * 10_000,
    ],
    ids=range(6),
)
def test_a_form_that_is_none(client, body):
    response = client.post(ROUTE, content=body, headers=FORM)
    assert response.status_code in (400, 422)
    assert isinstance(response.json()["detail"], str)


@pytest.mark.parametrize(
    "name", ["../../up.wav", "/etc/passwd", "a" * 999 + ".wav"]
)
def test_a_name_is_but_a_name(client, clips, name):
    file = clips["noise"].read_bytes()
    found = client.post(ROUTE, files={"file": (name, file)}).json()
    assert found["file"] == name
    found = client.post(ROUTE, files={"file": (name, b"broken")})
    refused(found, 422, name)


@pytest.mark.parametrize("codec", ["unicode_escape", "undefined"])
def test_names_are_utf_8(client, clips, codec):
    end = b"\r\n--x--\r\n"
    body = HEAD.replace(b'="a"', b'="\\ud800"') + clips["noise"].read_bytes()
    kind = f"{FORM['content-type']}; charset="
    for charset, status in ((codec, 422), ("UTF-8", 200)):
        headers = {"content-type": kind + charset}
        found = client.post(ROUTE, content=body + end, headers=headers)
        assert found.status_code == status


def test_sizes_and_lengths(limited, clips, sound, tmp_path):
    client = limited(megabytes=0.5, minutes=0.5)
    assert post(client, clips["noise"]).status_code == 200
    refused(post(client, clips["40 s"]), 413, "0.5 MB")
    # Without its size in the header.
    body = (HEAD if i == 0 else bytes(2**16) for i in range(16))
    refused(client.post(ROUTE, content=body, headers=FORM), 413, "0.5 MB")
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(31 * 16_000), 16_000)
    for timeline in (False, True):
        response = post(client, path, params={"timeline": timeline})
        refused(response, 413, "0.5 minutes")


@pytest.mark.parametrize(("size", "status"), [(10**9, 413), (10**40, 400)])
def test_a_size_that_is_announced(client, size, status):
    with reached(client) as there:
        announce(there, size)
        assert there.recv(2**16).split()[1] == b"%d" % status


def test_slow_and_too_many(limited, clips):
    client = limited(waiting=1, receive_seconds=1)
    held, release = threading.Event(), threading.Event()

    def slow():
        yield HEAD
        held.set()
        release.wait()

    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        stack.callback(release.set)
        first = pool.submit(client.post, ROUTE, content=slow(), headers=FORM)
        held.wait()
        while not metric(client, "qieemo_recordings"):
            time.sleep(0.01)
        response = post(client, clips["noise"])
        assert response.headers["retry-after"] == "1"
        refused(response, 429, "1 recordings")
        # A caller that sends all before it reads is told as well.
        with reached(client) as there:
            announce(there, 500_000)
            there.recv(9, socket.MSG_PEEK)
            for _ in range(50):
                there.sendall(bytes(10_000))
                time.sleep(0.001)
            assert b" 429 " in there.recv(2**16)
        while metric(client, "qieemo_recordings"):
            time.sleep(0.01)
        release.set()
        refused(first.result(), 408, "1 s")
    assert post(client, clips["noise"]).status_code == 200


def test_token(limited, clips):
    client = limited(token="secret")
    for headers in ({}, {"authorization": "Bearer wrong"}):
        response = post(client, clips["noise"], headers=headers)
        assert response.headers["www-authenticate"] == "Bearer"
        refused(response, 401, "token")
        with pytest.raises(InvalidStatus, match="401"):
            connect(address(client), additional_headers=headers)
    assert client.get("/metrics").status_code == 401
    assert client.get("/health").json()["status"] == "ok"
    right = {"authorization": "Bearer secret"}
    assert post(client, clips["noise"], headers=right).status_code == 200
    with connect(address(client), additional_headers=right) as there:
        there.send("{}")
        assert "rate: Field required" in json.loads(there.recv())["error"]


def test_nothing_is_left(client, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    long = tmp_path.parent / "hour.flac"
    soundfile.write(long, np.zeros(3_600 * 8_000), 8_000)
    post(client, clips["noise"])
    post(client, clips["noise"], params={"timeline": True})
    client.post(ROUTE, files={"file": b"broken"})
    # A caller that goes away before all is sent, and one that does not wait.
    with reached(client) as there:
        announce(there, 9_999_999)
        there.sendall(HEAD + bytes(2_000_000))
    with pytest.raises(httpx.ReadTimeout):
        post(client, long, timeout=1)
    # A stream that is cut off, with answers on their way.
    there = connect(address(client))
    there.send('{"rate": 8000, "interval": 0.1}')
    for _ in range(9):
        there.send(np.ones(40_000, "<f4").tobytes())
    there.socket.shutdown(socket.SHUT_RDWR)
    there.close()
    for name in ("qieemo_recordings", "qieemo_streams"):
        while metric(client, name):
            time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []
    while open_files(tmp_path):  # until the model's thread has noticed
        gc.collect()


@pytest.mark.parametrize("kind", ["float32", "int16"])
def test_a_stream_is_a_file(client, clips, classifier, kind):
    samples, rate = soundfile.read(clips["40 s"], dtype="float32")
    path = clips["40 s"]
    if kind == "int16":
        samples = (samples * 32_768).astype(np.int16)
        path = path.with_name("int16.wav")
        soundfile.write(path, samples, rate)
    *others, end = stream(client, samples, rate, kind, 50_001, interval=10)
    (expected,) = classifier([path])
    assert (end["event"], end["end"]) == ("end", 43.6)
    assert end["scores"] == pytest.approx(expected.scores, abs=1e-4)
    expected = classifier.stream(rate, interval=10).predict([samples])
    assert [p["event"] for p in others] == [p.event for p in expected][:-1]


def test_what_is_no_stream(limited, sound):
    client = limited(streams=1, idle_seconds=0.5, minutes=0.1)

    def answers(*messages):
        with connect(address(client)) as there:
            for message in messages:
                there.send(message)
            with contextlib.suppress(ConnectionClosed):
                while True:
                    answer = json.loads(there.recv(timeout=30))
        return there.protocol.close_rcvd.code, answer["error"]

    start, chunk = '{"rate": 16000}', sound(16_000).numpy().tobytes()
    for code, words, *messages in [
        (1007, "first message", "hello"),
        (1007, "format: ", '{"rate": 8000, "format": "mp3"}'),
        (1007, "sampling rate of 5 Hz", '{"rate": 5}'),
        (1007, "interval is 0.0 s", '{"rate": 8000, "interval": 0}'),
        (1007, "chunk of 5 bytes", start, b"12345"),
        (1007, "not the text 'stop'", start, chunk, "stop"),
        (1007, "too short", start, "end"),
        (1007, "NaN", start, np.full(9_000, np.nan, "f4").tobytes()),
        (1008, "0.1 minutes", start, *[chunk] * 8),
        (1008, "0.5 s", start, chunk),
    ]:
        found = answers(*messages)
        assert found[0] == code and words in found[1]
    with connect(address(client)), pytest.raises(InvalidStatus, match="429"):
        connect(address(client))
    while metric(client, "qieemo_streams"):
        time.sleep(0.01)


def test_metrics_count(limited, clips):
    client = limited()
    assert client.get("/health").json()["labels"] == [
        "neu",
        "hap",
        "ang",
        "sad",
    ]
    post(client, clips["noise"])
    client.post(ROUTE)
    client.get("/nowhere")
    stream(client, np.zeros(16_000, np.float32))
    assert metric(client, "qieemo_audio_seconds_total") == 4
    assert metric(client, "qieemo_batch_size_count") == 1
    text = client.get("/metrics").text
    for labels in (
        'route="/v1/emotions",status="200"',
        'route="/v1/emotions",status="422"',
        'route="other",status="404"',
    ):
        assert f"qieemo_requests_total{{{labels}}} 1.0" in text
    assert client.get("/docs").status_code == 200
    route = client.get("/openapi.json").json()["paths"][ROUTE]["post"]
    assert "multipart/form-data" in route["requestBody"]["content"]


def test_command(exported, clips, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    command = [sys.executable, "-m", "qieemo_sb.cli", "serve", "--port", "0"]
    command += ["--model", str(exported), "--token-file", str(token)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    lines = iter(server.stderr.readline, "")
    found = next(filter(None, (re.search("http://[0-9.:]+", x) for x in lines)))
    headers = {"authorization": "Bearer secret"}
    with httpx.Client(base_url=found[0], headers=headers) as client:
        assert post(client, clips["noise"]).json()["file"] == "noise.wav"
    server.send_signal(signal.SIGINT)
    assert server.wait() in (0, -signal.SIGINT)
    assert "Finished server process" in server.stderr.read()


def test_a_token_that_is_none(exported, tmp_path, capsys):
    command = ["serve", "--model", str(exported), "--token-file"]
    assert main([*command, str(tmp_path / "missing")]) == 1
    assert "missing is missing" in capsys.readouterr().err
    for text in ("\n", "two\nlines", "Gruß"):
        (tmp_path / "token").write_text(text, encoding="utf-8")
        assert main([*command, str(tmp_path / "token")]) == 1
        assert "one token" in capsys.readouterr().err

#!/usr/bin/env python3
"""Requests a second, waiting times, limits and memory of ``qieemo serve``.

Clients in this process each send a clip, wait for the answer, and send the
next, to servers in processes of their own on this machine: one as it is, and
one that computes no batches. Rounds of both, with few and with many clients,
take turns. Then come the answers beside those of ``qieemo predict``, requests
at and above the limits, and many requests in a row, for the memory.

> python bench/serving.py --wavs DIR

Authors
 * The Qieemo-SB authors 2026
"""

import asyncio
import contextlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx2 as httpx
import numpy as np
import soundfile
import timing

from qieemo_sb.frames import SAMPLE_RATE

ROUTE = "/v1/emotions"
COMMAND = "from qieemo_sb.cli import main; raise SystemExit(main())"
SERVERS = {
    "as it is": COMMAND,
    "no batches": "import qieemo_sb.serving.classifier as module; "
    f"module.BATCH_SECONDS = 0.0; {COMMAND}",
}
LOOKS = 10  # at the memory
SHORT = [0.5 + 0.125 * i for i in range(8)]  # seconds of clips, for the memory
LIMITS = {"waiting": 16, "megabytes": 1, "minutes": 0.5, "receive-seconds": 2}


def main(arguments=None):
    parser = timing.parser(__doc__.partition("\n")[0], whisper=False)
    parser.add_argument("--model", default="open")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 4, 16, 64]
    )
    parser.add_argument("--requests", type=int, default=128, help="of a round")
    parser.add_argument("--long", type=int, default=5000, help="requests")
    options = parser.parse_args(arguments)
    about = timing.start(options)
    bodies = [wav(x) for x in timing.make_clips(options.clips, options.wavs)]
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(served(options, code))
            for name, code in SERVERS.items()
        }
        server = servers["as it is"]
        results = {"load": throughput(servers, bodies, options)}
        show_load(results["load"])
        results["answers"] = compare(server, bodies, options)
        results["limits"] = over_limits(options)
        timing.table(["requests", "statuses"], results["limits"].items())
        results["memory"] = remember(server, options)
    timing.write(options, about, results)


def wav(clip):
    """A clip as the bytes of a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, clip, SAMPLE_RATE, format="WAV")
    return file.getvalue()


@contextlib.contextmanager
def served(options, code=COMMAND, **limits):
    """Start a server → its address and the number of its process."""
    command = [sys.executable, "-c", code, "serve", "--port", "0"]
    command += ["--model", options.model]
    for name, value in limits.items():
        command += [f"--max-{name}", str(value)]
    with subprocess.Popen(
        command,
        env=environment(options),
        stderr=subprocess.PIPE,
        text=True,
        stdout=subprocess.DEVNULL,
    ) as server:
        lines = iter(server.stderr.readline, "")
        found = (re.search(r"http://[0-9.:]+", line) for line in lines)
        url = next((match[0] for match in found if match), None)
        if url is None:
            sys.exit("The server did not start.")
        try:
            yield url, server.pid
        finally:
            server.terminate()


def environment(options):
    return {**os.environ, "OMP_NUM_THREADS": str(options.threads)}


def load(url, bodies, clients, requests):
    """Requests of so many clients → [(seconds, status, answer)], and of all."""
    done, numbers = [None] * requests, iter(range(requests))

    async def client(http):
        for i in numbers:
            begin = time.perf_counter()
            files = {"file": (f"{i}.wav", bodies[i % len(bodies)])}
            try:
                response = await http.post(ROUTE, files=files)
                status, answer = response.status_code, response.json()
            except httpx.TransportError as error:
                status, answer = type(error).__name__, None
            done[i] = time.perf_counter() - begin, status, answer

    async def all_clients():
        limits = httpx.Limits(max_connections=clients)
        async with httpx.AsyncClient(
            base_url=url, limits=limits, timeout=600
        ) as http:
            await asyncio.gather(*(client(http) for _ in range(clients)))

    begin = time.perf_counter()
    asyncio.run(all_clients())
    return done, time.perf_counter() - begin


def statuses(done):
    """``200 x 16, 429 x 48``."""
    counts = Counter(status for _, status, _ in done)
    return ", ".join(
        f"{key} x {counts[key]}" for key in sorted(counts, key=str)
    )


def throughput(servers, bodies, options):
    """Measurements by server and number of clients."""
    rounds = {(s, c): [] for s in servers for c in options.clients}
    for url, _ in servers.values():
        load(url, bodies, 4, options.clips)  # to warm up
    for _ in range(options.repeats):
        for (name, clients), found in rounds.items():
            url, process = servers[name]
            before = timing.cpu_of(process)
            done, wall = load(url, bodies, clients, options.requests)
            found.append((done, wall, timing.cpu_of(process) - before))
    results = {name: {} for name in servers}
    for (name, clients), found in rounds.items():
        results[name][clients] = summary(found)
    return results


def summary(rounds):
    """Medians over rounds: requests a second, p50 and p95 [s], cpu [s]."""
    rates = [len(done) / wall for done, wall, _ in rounds]
    seconds = [[second for second, _, _ in done] for done, _, _ in rounds]
    p50, p95 = np.median(np.quantile(seconds, [0.5, 0.95], axis=1), axis=1)
    return {
        "requests_per_second": statistics.median(rates),
        "least": min(rates),
        "most": max(rates),
        "p50": float(p50),
        "p95": float(p95),
        "cpu": statistics.median(cpu / len(done) for done, _, cpu in rounds),
        "statuses": statuses([x for done, _, _ in rounds for x in done]),
    }


def show_load(results):
    rows = []
    for name, by_clients in results.items():
        for clients, found in by_clients.items():
            rate = "{requests_per_second:.1f} ({least:.1f} to {most:.1f})"
            times = [
                f"{1000 * found[key]:.0f}" for key in ("p50", "p95", "cpu")
            ]
            row = [name, clients, rate.format(**found), *times]
            rows.append([*row, found["statuses"]])
    headings = ["server", "clients", "requests a second", "p50, ms", "p95, ms"]
    timing.table([*headings, "cpu, ms a request", "statuses"], rows)


def compare(server, bodies, options):
    """Answers under load, against those of the command line."""
    done, _ = load(server[0], bodies, len(bodies), len(bodies))
    found = [answer for _, _, answer in done]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / answer["file"] for answer in found]
        for path, body in zip(paths, bodies, strict=True):
            path.write_bytes(body)
        command = [sys.executable, "-c", COMMAND, "predict", "--format", "json"]
        command += ["--model", options.model, *map(str, paths)]
        out = subprocess.run(
            command, env=environment(options), check=True, capture_output=True
        ).stdout
    expected = json.loads(out)
    pairs = list(zip(found, expected, strict=True))
    results = {
        "clips": len(pairs),
        "same_emotion": sum(a["emotion"] == b["emotion"] for a, b in pairs),
        "largest_difference": max(
            abs(a["scores"][label] - b["scores"][label])
            for a, b in pairs
            for label in b["scores"]
        ),
    }
    print("answers beside the command line's:", results)
    return results


def over_limits(options):
    """Statuses at the limits of a server, and above them."""
    most = LIMITS["waiting"]
    short = wav(np.zeros(SAMPLE_RATE, np.float32))
    cases = {
        f"{most} at once": (short, most),
        f"{4 * most} at once": (short, 4 * most),
        "1 MB": (short.ljust(int(1e6) - 1000, b"\0"), 1),
        "1.1 MB": (short.ljust(int(1.1e6), b"\0"), 1),
        "30 s": (wav(np.zeros(30 * SAMPLE_RATE, np.float32)), 1),
        "31 s": (wav(np.zeros(31 * SAMPLE_RATE, np.float32)), 1),
    }
    with served(options, **LIMITS) as (url, _):
        found = {
            name: statuses(load(url, [body], clients, 8 * clients)[0])
            for name, (body, clients) in cases.items()
        }
        for seconds in (1, 3):
            found[f"sent in {seconds} s"] = slowly(url, short, seconds)
    return found


def slowly(url, body, seconds):
    """Status of a request whose end comes late."""
    request = httpx.Request("POST", url + ROUTE, files={"file": body})
    whole = request.read()

    def parts():
        yield whole[:-9]
        time.sleep(seconds)
        yield whole[-9:]

    headers = {
        key: request.headers[key] for key in ("content-type", "content-length")
    }
    response = httpx.post(url + ROUTE, content=parts(), headers=headers)
    return f"{response.status_code} x 1"


def remember(server, options):
    """Memory [MB] of a server, before and during many requests."""
    url, process = server
    clips = timing.make_clips(None, options.wavs, SHORT)
    bodies = [wav(clip) for clip in clips]
    begin, memory = time.perf_counter(), [timing.resident_of(process)]
    for _ in range(LOOKS):
        done, _ = load(url, bodies, 16, options.long // LOOKS)
        memory.append(timing.resident_of(process))
        if statuses(done) != f"200 x {len(done)}":
            sys.exit(f"Requests failed: {statuses(done)}")
    numbers = " ".join("-" if x is None else f"{x:.0f}" for x in memory)
    print(f"MB, every {options.long // LOOKS} requests: {numbers}")
    print(f"in {time.perf_counter() - begin:.0f} s")
    return memory


if __name__ == "__main__":
    main()

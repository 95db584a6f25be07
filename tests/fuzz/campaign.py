"""A campaign of hostile inputs, each kind in turn, in a child process.

    make fuzz MINUTES=30 KINDS="server stream"
    make fuzz REPLAY=build/fuzz/audio-1a2b3c4d.txt

A child that hangs, takes too much memory or dies is replaced. What failed is
kept as a file, one for each cause, that can be tried again.
"""

import argparse
import ast
import faulthandler
import hashlib
import itertools
import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

SECONDS = 10  # of an input, on a processor of its own
PATIENCE = 6 * SECONDS  # on one that others use as well
MEGABYTES = 500  # above the model
ROUND = 50  # inputs of a kind at once


def work(pipe, folder, seed, only, names):
    """Try inputs and tell of each, until killed; or one that is given."""
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):  # libraries print
        os.dup2(log, number)
    faulthandler.enable()
    import kinds
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    warnings.filterwarnings("error", module="qieemo_sb")
    home = kinds.Home(folder)
    kinds.attempt("command", ("predict", ["data", "--timeline=csv"], ""), home)
    first = megabytes()
    size = int(open("/proc/self/statm").read().split()[0]) * 4_096
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**32, -1))

    def told(kind, value):
        pipe.send((kind, value))
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS + 1, -1))
        try:
            outcome = kinds.attempt(kind, value, home), ""
        except BaseException:
            outcome = "else", traceback.format_exc()
        more = megabytes() - first
        if more > MEGABYTES:
            outcome = "else", f"{more:.0f} MB above the model"
        pipe.send(outcome)
        if more > MEGABYTES:
            os._exit(0)

    if only:
        return told(*only)
    options = settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for number in itertools.count(seed):
        for kind in names or kinds.KINDS:

            @seeded(number)
            @options
            @given(st.just(kind), kinds.KINDS[kind][0])
            def draw(kind, value):
                told(kind, value)

            draw()


def megabytes():
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000


class Child:
    """A process that tries inputs."""

    def __init__(self, folder, only=None, names=()):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, end = spawn.Pipe()
        seed = random.randrange(2**32)
        self.process = spawn.Process(
            target=work,
            args=(end, folder, seed, only, names),
            daemon=True,
        )
        self.process.start()
        end.close()

    def next(self, patience):
        """What it tells; None if it has ended, or hangs and was killed."""
        try:
            if self.pipe.poll(patience):
                return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return None
        self.process.kill()
        return None

    def one(self):
        """The next input, how it ended, and what is known of it."""
        begun = self.next(600)
        if begun is None:
            raise RuntimeError("A child does not start: see log.txt")
        ended = self.next(PATIENCE)
        if ended is None:
            self.process.join()
            ended = "else", f"ended by signal {-self.process.exitcode}"
        return *begun, *ended


def campaign(folder, minutes, names):
    """Try inputs of all or some kinds for some minutes → counts by kind."""
    counts, causes, child = {}, {}, None
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        if child is None or not child.process.is_alive():
            child = Child(folder, names=names)
        try:
            kind, value, outcome, about = child.one()
        except RuntimeError:
            if child.process.exitcode == 0:  # it had taken too much memory
                continue
            raise
        counts.setdefault(kind, Counter())[outcome] += 1
        if outcome == "else":
            keep(folder, causes, kind, value, about)
    child.process.kill()
    return counts, causes


def keep(folder, causes, kind, value, about):
    """Write an input that failed, unless its cause is known."""
    lines = about.strip().splitlines() or ["?"]
    places = [x.strip() for x in lines if x.lstrip().startswith("File")]
    cause = kind, lines[-1].split(":")[0], *places[-1:]
    causes.setdefault(cause, [0, None])[0] += 1
    if causes[cause][1] is None:
        text = repr((kind, value))
        name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.txt"
        comments = "".join(f"# {line}\n" for line in lines)
        (folder / name).write_text(f"{comments}{text}\n", encoding="utf-8")
        causes[cause][1] = name
        print(f"{folder / name}: {lines[-1][:150]}", flush=True)


def main():
    """Run a campaign, or replay a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--kinds", nargs="*", help="default: all")
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    import kinds

    folder = options.folder.absolute()
    if not (folder / "export").exists():
        folder.mkdir(parents=True, exist_ok=True)
        kinds.make_models(folder)
    if options.replay:
        text = options.replay.read_text(encoding="utf-8")
        only = ast.literal_eval(
            "".join(x for x in text.splitlines() if x[:1] != "#")
        )
        _, _, outcome, about = Child(folder, only).one()
        print(outcome, about, sep="\n")
        return int(outcome == "else")
    counts, causes = campaign(folder, options.minutes, options.kinds)
    names = "answered", "clear error", "else"
    print(f"{'kind':10}{'tried':>12}", *(f"{n:>12}" for n in names), sep="")
    total = Counter()
    for kind, found in [*counts.items(), ("all", total)]:
        row = [found.total(), *(found[name] for name in names)]
        print(f"{kind:10}", *(f"{n:>12}" for n in row), sep="")
        total += found
    return int(bool(causes))


if __name__ == "__main__":
    sys.exit(main())

"""Processes are killed at random moments: nothing is torn, nothing is lost.

    make kills KILLS=20

Training, the filling of an encoder's cache, the saving of a model and
``qieemo predict --output`` are killed in turn, checked, and go on until they
end: with the result of one that was left alone. Each job is a generator that
yields when its imports are done.
"""

import os
import random
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAVES = 200
RESULTS = "*.json", "*.csv", "*.npy", "model/*"


def train(folder):
    from runs import SYNTHETIC, demo

    os.chdir(SYNTHETIC)
    sys.path.insert(0, str(SYNTHETIC))
    sys.argv = ["train.py", *demo(folder.parent / "corpus", folder, epochs=3)]
    yield
    runpy.run_path("train.py", run_name="__main__")


def cache(folder):
    from checkpoints import fresh_encoder

    from qieemo_sb.training.cache import EncoderCache

    encoder = fresh_encoder("whisper").requires_grad_(False)
    yield
    EncoderCache(folder, encoder, [1]).fill(wavs(folder))


def save(folder):
    from kinds import save_toy

    yield
    for _ in range(SAVES):
        save_toy(folder / "model")


def predict(folder):
    from qieemo_sb.cli import main

    model = str(folder.parent / "toy")
    files = list(map(str, wavs(folder)))
    yield
    out = str(folder / "out.csv")
    main(["predict", "--model", model, "--format=csv", "--output", out, *files])


def wavs(folder):
    return sorted((folder.parent / "corpus").rglob("*.wav"))


JOBS = {job.__name__: job for job in (train, cache, save, predict)}


def run(name, folder, seconds=None):
    """Run a job → seconds that it took; None if it was killed."""
    process = subprocess.Popen(
        [sys.executable, __file__, name, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()  # the imports are done
    begun = time.monotonic()
    try:
        _, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    if process.returncode:
        raise RuntimeError(f"{name} failed: {error.decode()[-2000:]}")
    return time.monotonic() - begun


def results(folder):
    """Contents of the files that a job makes, by name."""
    return {
        path.relative_to(folder): path.read_bytes()
        for pattern in RESULTS
        for path in folder.rglob(pattern)
        if path.is_file() and path.name[0] != "."
        and not any(part.endswith((".unfinished", ".old", "save"))
                    for part in path.relative_to(folder).parts)
    }  # fmt: skip


def survive(name, place, kills):
    """Kill a job some times, then let it end → files that it made."""
    reference, victim = place / f"{name}-whole", place / f"{name}-killed"
    reference.mkdir()
    victim.mkdir()
    seconds = run(name, reference)
    expected = results(reference)
    assert expected, f"{name} made no file"
    while kills:
        if run(name, victim, random.uniform(0, seconds)) is None:
            kills -= 1
            for path, found in results(victim).items():
                assert found == expected[path], f"{path} is torn"
        else:
            shutil.rmtree(victim)
            victim.mkdir()
    run(name, victim)
    found = results(victim)
    different = [p for p in expected if found.get(p) != expected[p]]
    assert not different, f"{name}: {different} are not as of the whole run"
    return len(expected)


def main():
    """Kill each job a quarter of the times that are asked for."""
    if len(sys.argv) == 3:
        job = JOBS[sys.argv[1]](Path(sys.argv[2]))
        next(job)
        print("begun", flush=True)
        sys.stdout = sys.stderr
        return list(job)
    from kinds import save_toy
    from tree import write_tree

    kills = int(sys.argv[1]) // len(JOBS)
    with tempfile.TemporaryDirectory() as place:
        write_tree(Path(place) / "corpus")
        save_toy(Path(place) / "toy")
        for name in JOBS:
            files = survive(name, Path(place), kills)
            print(f"{name}: {kills} kills, {files} files as of a whole run")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Use the page of ``qieemo demo`` in a browser, and take pictures for docs/.

> pip install -e '.[demo,demo-page]' playwright; apt-get install chromium
> python tools/page_pictures.py

All that the page is for is done as people do it, and its answers are compared
with the library's: a file that is no sound, an upload, a download, a speaker, a
microphone. The page may ask no other machine. Leaves docs/images/page.png, and
timeline.png, a picture by the library. The speech is espeak-ng's, so the
emotions mean nothing. It is no test of the suite, because a browser is not on
every machine.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import expect, sync_playwright

from qieemo_sb import load_model
from qieemo_sb.frames import SAMPLE_RATE
from qieemo_sb.serving.picture import timeline_picture
from qieemo_sb.serving.timeline import Turn

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "recipes/Synthetic/qieemo"))
from synthetic import plan_turns, render  # noqa: E402

IMAGES = ROOT / "docs/images"
VOICES = {"en-us+f2": "Ann", "en-us+m3": "Bob"}
SHORT, LONG = 15, 345  # seconds of speech
PATIENCE = 120_000  # ms, on a machine that is busy


def main():
    """Make speech, draw it, use the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args()
    options.images.mkdir(parents=True, exist_ok=True)
    classifier = load_model("open")
    with tempfile.TemporaryDirectory() as folder:
        long, short = Path(folder, "long.flac"), Path(folder, "talk.wav")
        turns = speak(long, LONG, VOICES)
        segments = classifier.timeline(long, turns)
        figure = timeline_picture(long, segments)
        figure.savefig(options.images / "timeline.png", dpi=100)

        speak(short, SHORT, ["en-us+f2"], seed=4)
        clips = [Path(folder, f"clip {i}.wav") for i in range(4)]
        for i, clip in enumerate(clips):
            speak(clip, 5, ["en-us+f2"], seed=10 + i)
        with serve() as url, browse(options.browser, url, short) as page:
            use(page, classifier, short, clips, options.images / "page.png")
    print("The page works. Pictures:", options.images)


def speak(path, seconds, voices, seed=0):
    """Write a talk of some seconds, or a few more → who speaks when."""
    plan = [x for x in plan_turns() if x.voice in voices]
    choice = random.Random(seed)
    times, parts, at = [], [], 0.0
    while at < seconds:
        turn, pause = choice.choice(plan), choice.choice([0.3, 0.8, 2.0])
        # Some sentences in the same manner.
        manner = turn.voice, turn.style
        alike = [x for x in plan if (x.voice, x.style) == manner]
        said = [
            render(x) for x in choice.choices(alike, k=choice.randint(1, 4))
        ]
        end = at + sum(map(len, said)) / SAMPLE_RATE
        times.append(Turn(at, end, VOICES[turn.voice]))
        silence = np.zeros(round(pause * SAMPLE_RATE), np.int16)
        parts += [*said, silence]
        at = end + pause
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE)
    return times


def use(page, classifier, talk, clips, image):
    """All that the page is for, as the library does it."""
    (plain,) = classifier(talk)
    voice = classifier.adapt(clips)
    (adapted,) = classifier.predict(talk, voice)
    refuse(page, Path(__file__))
    classify(page, talk)
    compare(page, plain)
    page.screenshot(path=image, full_page=True)
    compare_timelines(page, classifier.timeline(talk))
    adapt(page, clips)
    compare(page, adapted)
    compare_timelines(page, classifier.timeline(talk, speaker=voice))
    page.get_by_role("button", name="Forget the speaker").click()
    compare(page, plain)
    record(page)


@contextlib.contextmanager
def serve():
    """``qieemo demo`` in a process of its own → its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "qieemo_sb.cli", "demo", "--port", port]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", process.stdout.readline())
        if not address:
            sys.exit("qieemo demo does not start; see above.")
        yield address[0]
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def browse(browser, url, speech):
    """The page in a browser, whose microphone hears a file."""
    options = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={speech}",
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser, args=options
        )
        page = chromium.new_page(viewport={"width": 1100, "height": 800})
        asked, local = [], (url, "data:", "blob:")
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        yield page
        others = [x for x in asked if not x.startswith(local)]
        assert not others, f"The page asks other machines: {others}"
        chromium.close()


def refuse(page, file):
    """A file that is no sound: a message with its name, not its folder."""
    buffer = file.read_bytes()
    upload(page, {"name": "a.wav", "mimeType": "audio/wav", "buffer": buffer})
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("a.wav", timeout=PATIENCE)
    message = toast.inner_text()
    assert "/" not in message and "Traceback" not in message, message
    page.get_by_test_id("toast-close").click()
    clear(page)


def upload(page, files, kind="[accept*=audio]"):
    """Give files to one of the places for them on the page."""
    page.locator(f"input[type=file]{kind}").first.set_input_files(files)


def clear(page):
    """Take the recording away."""
    page.get_by_role("button", name="Clear").first.click()


def classify(page, file):
    """Upload a recording, and wait."""
    upload(page, file)
    wait(page)


def wait(page):
    """Wait for the picture, which comes last."""
    picture = page.get_by_alt_text("Waveform of the recording")
    expect(picture).to_be_visible(timeout=PATIENCE)
    picture.evaluate("image => image.decode()")


def compare(page, prediction):
    """Scores as the library's, to two digits."""
    for emotion, score in prediction.scores.items():
        bar = page.get_by_role("meter", name=emotion)
        value = re.compile(rf"^{int(1000 * score) / 1000:.3f}"[:5])
        expect(bar).to_have_attribute("value", value, timeout=PATIENCE)
    answer = page.get_by_test_id("label-output-value")
    expect(answer).to_have_text(prediction.emotion)


def compare_timelines(page, segments):
    """The table, and the file that the page gives, are the library's."""
    for row, segment in enumerate(segments):
        cell = page.get_by_test_id(f"cell-{row}-2")
        expect(cell).to_have_text(segment.emotion, timeout=PATIENCE)
    with page.expect_download() as download:
        page.get_by_role("button", name="json", exact=True).click()
    given = json.loads(download.value.path().read_text())
    assert [x["emotion"] for x in given] == [x.emotion for x in segments]


def adapt(page, clips):
    """Add clips of the speaker."""
    page.get_by_role("button", name="Adapt to a speaker").click()
    upload(page, clips, "[multiple]")
    expect(page.get_by_text(clips[-1].stem).first).to_be_visible()
    page.get_by_role("button", name="Adapt", exact=True).click()
    done = page.get_by_text(f"speaker of {len(clips)} clips")
    expect(done).to_be_visible(timeout=PATIENCE)


def record(page):
    """Record some seconds from the microphone."""
    clear(page)
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(5_000)
    page.get_by_role("button", name="Stop").first.click()
    wait(page)


if __name__ == "__main__":
    main()

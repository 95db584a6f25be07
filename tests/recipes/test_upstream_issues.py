"""The notes for SpeechBrain show what they say that they show."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

NOTES = Path(__file__).parents[2] / "docs/upstream-issues.md"
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
# All in one process, since importing takes longer than they do.
DRIVER = """\
import sys
for block in sys.stdin.read().split("\\0"):
    exec(block, {"__name__": "__main__"})
    print("\\0", end="")
"""


def test_every_note_shows_its_fault():
    notes = BLOCK.findall(NOTES.read_text(encoding="utf-8"))
    # The others take a checkout.
    alone = [note for note in notes if "sys.argv[1]" not in note[0]]
    assert (len(notes), len(alone)) == (11, 9)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input="\0".join(script for script, _ in alone),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if version("speechbrain") == "1.1.2":  # whose output the notes quote
        printed = done.stdout.split("\0")[:-1]
        assert printed == [output for _, output in alone]

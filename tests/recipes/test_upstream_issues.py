"""The notes for SpeechBrain show what they say that they show."""

import re
from importlib.metadata import version
from pathlib import Path

from runs import train

NOTES = Path(__file__).parents[2] / "docs/upstream-issues.md"
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
# All in one process, each with what it prints in a file of its own.
DRIVER = """\
import contextlib, pathlib
for script in sorted(pathlib.Path().glob("*.py")):
    with open(script.with_suffix(".txt"), "w") as printed:
        with contextlib.redirect_stdout(printed):
            exec(script.read_text(), {"__name__": "__main__"})
"""


def test_every_note_shows_its_fault(tmp_path):
    notes = BLOCK.findall(NOTES.read_text(encoding="utf-8"))
    # The others take a checkout.
    alone = [note for note in notes if "sys.argv[1]" not in note[0]]
    assert (len(notes), len(alone)) == (11, 9)
    for number, (script, _) in enumerate(alone):
        (tmp_path / f"{number}.py").write_text(script)
    (tmp_path / "driver").write_text(DRIVER)
    code, errors = train(tmp_path, script="driver")
    assert code == 0, errors
    if version("speechbrain") == "1.1.2":  # whose output the notes quote
        for number, (_, output) in enumerate(alone):
            assert (tmp_path / f"{number}.txt").read_text() == output

"""README.md's code runs, and links and paths in every page lead somewhere."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
from clips import RATE, noise, sentence

from qieemo_sb.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part[0] in "._" for part in page.relative_to(ROOT).parts)
]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the files that the README names."""
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    (tmp_path / "ann").mkdir()
    names = ["speech.wav", *(f"ann/{i}.wav" for i in range(1, 5))]
    for i, name in enumerate(names):
        speech = np.concatenate([sentence(), noise(0.5, seed=i)])
        soundfile.write(tmp_path / name, speech, RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "code", [code for language, code in BLOCKS if language == "python"]
)
def test_python_blocks_run(code, place, capsys):
    exec(compile(code, "README.md", "exec"), {})
    if "print(prediction.file" in code:
        printed = capsys.readouterr().out
        assert printed.startswith("speech.wav ")


def test_qieemo_commands_run(place, capsys):
    lines = "".join(code for language, code in BLOCKS if language == "sh")
    commands = [
        shlex.split(line, comments=True)[1:]
        for line in lines.splitlines()
        if line.startswith("qieemo ")
    ]
    assert [main(command) for command in commands] == [0] * 3
    of_model, _, of_export = capsys.readouterr().out.splitlines()
    assert of_model.split("\t")[:2] == of_export.split("\t")[:2]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [x for x in links if not (page.parent / x).exists()] == []
    tops = "bench|docs|qieemo_sb|recipes/(?:RAVDESS|Synthetic)|tools"
    paths = re.findall(rf"`((?:{tops})/[\w./-]+)`", text)
    assert [x for x in paths if not [*ROOT.glob(x)]] == []

"""README.md's code runs, and links and paths in every page lead somewhere."""

import re

import pytest
from readme import BLOCKS, ROOT

PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part[0] in "._" for part in page.relative_to(ROOT).parts)
]


def test_python_blocks_run(readme_commands, capsys, monkeypatch):
    monkeypatch.chdir(readme_commands[0])
    names = {}  # a block goes on where the one before ended
    for language, code in BLOCKS:
        if language == "python":
            exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.startswith("speech.wav ")


def test_qieemo_commands_run(readme_commands):
    results = readme_commands[1]
    assert [code for code, _ in results] == [0] * len(results)
    of_model, of_export = results[0][1], results[-1][1]
    assert of_model.split("\t")[:2] == of_export.split("\t")[:2]
    folder = readme_commands[0]
    assert "recordings/a.flac," in (folder / "emotions.csv").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [x for x in links if not (page.parent / x).exists()] == []
    tops = "bench|docs|qieemo_sb|recipes/(?:RAVDESS|Synthetic)|tools"
    paths = re.findall(rf"`((?:{tops})/[\w./-]+)`", text)
    assert [x for x in paths if not [*ROOT.glob(x)]] == []

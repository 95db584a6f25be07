"""README.md's code runs, and links and paths in every page lead somewhere."""

import re

import pytest
from readme import BLOCKS, ROOT

PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part[0] in "._" for part in page.relative_to(ROOT).parts)
]


@pytest.mark.parametrize(
    "code", [code for language, code in BLOCKS if language == "python"]
)
def test_python_blocks_run(code, readme_commands, capsys, monkeypatch):
    monkeypatch.chdir(readme_commands[0])
    exec(compile(code, "README.md", "exec"), {})
    if "print(prediction.file" in code:
        printed = capsys.readouterr().out
        assert printed.startswith("speech.wav ")


def test_qieemo_commands_run(readme_commands):
    codes, printed = zip(*readme_commands[1], strict=True)
    assert codes == (0, 0, 0)
    of_model, _, of_export = printed
    assert of_model.split("\t")[:2] == of_export.split("\t")[:2]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [x for x in links if not (page.parent / x).exists()] == []
    tops = "bench|docs|qieemo_sb|recipes/(?:RAVDESS|Synthetic)|tools"
    paths = re.findall(rf"`((?:{tops})/[\w./-]+)`", text)
    assert [x for x in paths if not [*ROOT.glob(x)]] == []

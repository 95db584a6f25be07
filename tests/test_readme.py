"""Code in README.md and docs/ runs; links, paths and options are there."""

import json
import re
import shlex

import nbclient
import nbformat
import pytest
from mkdocs.__main__ import build_command
from readme import DOCS, ROOT, blocks, commands, run, write_files
from servers import running
from speechbrain.core import RunOptions

from qieemo_sb import load_model
from qieemo_sb.serving.server.app import create_app

PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part[0] in "._" for part in page.relative_to(ROOT).parts)
]
SERVE = ROOT / "docs/serve.md"
SCRIPTS = "".join(  # their text: recipes share what parses options
    path.read_text("utf-8")
    for top in ("bench", "recipes", "tools")
    for path in sorted(ROOT.glob(f"{top}/**/*.py"))
)


def name(page):
    return str(page.relative_to(ROOT))


def test_readme_runs(readme_run):
    folder, results = readme_run
    printed = {code.split("\n")[0]: output for code, output in results}
    of_model = printed["qieemo predict speech.wav"]
    of_export = printed["qieemo predict speech.wav --model exported"]
    assert of_model.split("\t")[:2] == of_export.split("\t")[:2]
    assert printed["qieemo predict talk.mp4 --timeline webvtt"].count("-->")
    assert "recordings/a.flac," in (folder / "emotions.csv").read_text()
    of_python = printed["from qieemo_sb import load_model"]
    assert of_python.startswith(" ".join(of_model.split("\t")[:2]))


@pytest.mark.parametrize(
    "page", [p for p in DOCS if blocks(p) and p != SERVE], ids=name
)
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(write_files(tmp_path))
    run(page)


def test_the_page_of_the_server_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(write_files(tmp_path))
    with running(create_app(load_model("open"))) as client:
        results = run(SERVE, client.base_url.netloc.decode())
    (first,) = [json.loads(out) for code, out in results if "-F file" in code]
    assert first["file"] == "speech.wav"
    (stream,) = [out for code, out in results if "socket.send" in code]
    assert stream.splitlines()[-1] == f"end {first['emotion']}"


def test_the_site_builds(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    options = ["--strict", "--config-file", str(ROOT / "mkdocs.yml")]
    options += ["--site-dir", str(tmp_path)]
    build_command.main(options, standalone_mode=False)
    page = (tmp_path / "how-it-works.html").read_text(encoding="utf-8")
    assert "<math" in page and ".. math" not in page
    # Everything that a page loads is in the site.
    for path in tmp_path.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'src="https?:|rel="stylesheet" href="http', text)


def test_the_notebook_runs(tmp_path, monkeypatch):
    for place in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):  # not in the home
        monkeypatch.setenv(place, str(tmp_path / place))
    path = ROOT / "docs/quick-start.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(
        notebook, resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert "speech.wav" in str(notebook.cells)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_scripts_and_their_options_are_there(page):
    folders = [page.parent, ROOT, *ROOT.glob("recipes/*/qieemo")]
    for line in commands(page):
        program, *words = shlex.split(line, comments=True) or [""]
        if program == "cd":
            there = [f / words[0] for f in folders if (f / words[0]).is_dir()]
            folders.insert(0, there[0])
        elif program == "make":
            assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text("utf-8")
        elif program == "pip":
            extras = re.findall(r"\[([\w-]+)\]", line)
            setup = (ROOT / "setup.py").read_text("utf-8")
            assert all(f'"{extra}": ' in setup for extra in extras), line
            if "extra_requirements.txt" in words:
                assert (folders[0] / words[-1]).exists()
        elif program in ("python", "torchrun"):
            assert any(takes(folder, words) for folder in folders), line


def takes(folder, words):
    """Whether a folder has the script and yaml, and they the options."""
    files = [word for word in words if re.fullmatch(r"[\w/]+\.(py|yaml)", word)]
    # A grid's options are those of the yaml beside it.
    yamls = {
        path
        for file in files
        if file.endswith("yaml")
        for path in (folder / file).parent.glob("*.yaml")
    }
    text = SCRIPTS + "".join(path.read_text("utf-8") for path in yamls)
    known = {*RunOptions().as_dict(), "nproc_per_node"}  # torchrun's
    known |= set(re.findall(r"^(\w+):", text, re.MULTILINE))
    known |= set(re.findall(r'"--([\w-]+)"', text))
    options = {word[2:].split("=")[0] for word in words if word[:2] == "--"}
    return options <= known and all((folder / file).exists() for file in files)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [x for x in links if not (page.parent / x).exists()] == []
    tops = "bench|docs|qieemo_sb|recipes/(?:RAVDESS|Synthetic)|tools"
    paths = re.findall(rf"`((?:{tops})/[\w./-]+)`", text)
    assert [x for x in paths if not [*ROOT.glob(x)]] == []

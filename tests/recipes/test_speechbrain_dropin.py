"""The recipes go into a SpeechBrain checkout, and nothing else changes."""

import csv
import importlib.util
import os
import re
import subprocess
import sys

import pytest
from runs import IEMOCAP, MULTI, RAVDESS, ROOT, SYNTHETIC, train

TOOL = ROOT / "tools/speechbrain_dropin.py"
COLUMNS = (
    "Task,Dataset,Script_file,Hparam_file,Data_prep_file,Readme_file,"
    "Result_url,HF_repo,test_debug_flags,test_debug_checks,performance"
)
THEIRS = "ER,IEMOCAP,train.py,train.yaml,,README.md,,,--a=[1,2],,'65.7%'"
README = "# Emotion\n\n# Results\n| a |\n\n# **About IEMOCAP**\nA corpus.\n"


def load_tool():
    spec = importlib.util.spec_from_file_location("speechbrain_dropin", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.fixture
def checkout(tmp_path):
    """A tree that looks like SpeechBrain's."""
    (tmp_path / "recipes/IEMOCAP/emotion_recognition").mkdir(parents=True)
    (tmp_path / "recipes/IEMOCAP/emotion_recognition/train.py").touch()
    (tmp_path / "recipes/IEMOCAP/README.md").write_text(README)
    (tmp_path / "tests/recipes/setup").mkdir(parents=True)
    table = f"{COLUMNS}\n{THEIRS}\n"
    (tmp_path / "tests/recipes/IEMOCAP.csv").write_text(table)
    (tmp_path / "tests/recipes/TIMIT.csv").write_text(table)
    return tmp_path


def tree(folder):
    """Path → contents, or a link's target."""
    paths = sorted(
        p for p in folder.rglob("*") if p.is_symlink() or p.is_file()
    )
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in paths
    }


def rows(checkout, dataset):
    path = checkout / f"tests/recipes/{dataset}.csv"
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, skipinitialspace=True))


def recipe_yamls(recipes="*"):
    """All yaml of the recipes, relative to the root."""
    found = sorted(ROOT.glob(f"recipes/{recipes}/qieemo/hparams/*.yaml"))
    return [path.relative_to(ROOT).as_posix() for path in found]


def test_a_second_call_changes_nothing(checkout):
    assert tool.drop_in(checkout)
    before = tree(checkout)
    assert tool.drop_in(checkout) == []
    assert tree(checkout) == before


def test_it_adds_to_two_files_and_touches_no_other(checkout):
    before = tree(checkout)
    changed = {path.as_posix() for path in tool.drop_in(checkout)}
    after = tree(checkout)
    assert {p for p in after if after[p] != before.get(p)} == changed
    assert changed & set(before) == {
        "recipes/IEMOCAP/README.md",
        "tests/recipes/IEMOCAP.csv",
    }
    new = changed - set(before) - {"tests/recipes/RAVDESS.csv"}
    places = "recipes/[A-Z]+/qieemo/|tests/recipes/setup/recipes_[A-Z]+_qieemo_"
    assert all(re.match(places, path) for path in new)


def test_every_yaml_has_a_row_whose_files_are_there(checkout):
    tool.drop_in(checkout)
    own = [row for name in tool.DATASETS for row in rows(checkout, name)]
    own = [row for row in own if "/qieemo/" in row["Hparam_file"]]
    assert [row["Hparam_file"] for row in own] == recipe_yamls("[A-Z][A-Z]*")
    for row in own:
        for column in ("Script_file", "Hparam_file", "Readme_file"):
            assert (checkout / row[column]).is_file()
        assert (checkout / row["Data_prep_file"]).is_file()
        assert row["test_debug_flags"] and None not in row


def test_what_others_wrote_stays_as_it_was(checkout):
    tool.drop_in(checkout)
    table = (checkout / "tests/recipes/IEMOCAP.csv").read_text()
    assert table.startswith(f"{COLUMNS}\n{THEIRS}\n")
    text = (checkout / "recipes/IEMOCAP/README.md").read_text()
    cut = text.index(tool.BEGIN), text.index(tool.END) + len(tool.END) + 1
    assert text[: cut[0]] + text[cut[1] :] == README


def test_rows_and_section_are_brought_up_to_date(checkout):
    tool.drop_in(checkout)
    before = tree(checkout)
    table = checkout / "tests/recipes/IEMOCAP.csv"
    lines = table.read_text().replace("n_classes=4", "n_classes=5").splitlines()
    stale = "x,IEMOCAP,recipes/IEMOCAP/qieemo/gone.py,,,,,,,,"
    table.write_text("\n".join([*lines[:-1], stale]) + "\n")
    readme = checkout / "recipes/IEMOCAP/README.md"
    readme.write_text(readme.read_text().replace("## Results", "## Old"))
    assert len(tool.drop_in(checkout)) == 2
    after = tree(checkout)
    assert {p: v[0] for p, v in after.items()} == {
        p: v[0] for p, v in before.items()
    }


def test_links_stay_links_and_lead_somewhere(checkout):
    tool.drop_in(checkout)
    ours = ROOT / "recipes/RAVDESS/qieemo/train.py"
    theirs = checkout / "recipes/RAVDESS/qieemo/train.py"
    assert os.readlink(theirs) == os.readlink(ours)
    links = [path for path in checkout.rglob("*") if path.is_symlink()]
    assert all(path.exists() for path in links)


def test_what_needs_a_whisper_is_given_one_by_a_program(checkout):
    tool.drop_in(checkout)
    for row in rows(checkout, "RAVDESS"):
        script = row["Script_file"]
        # As run_recipe_tests looks for it.
        program = (
            checkout
            / "tests/recipes/setup"
            / script[:-3].replace("/", "_")
            / row["Hparam_file"]
            .replace(os.path.dirname(script), "")[1:-5]
            .replace("/", "_")
        )
        assert os.access(program, os.X_OK)


def test_the_program_makes_the_whisper_that_the_rows_name(tmp_path):
    code, printed = train(tmp_path, script=tool.SETUP)
    assert code == 0, printed
    folder = tmp_path / tool.WHERE_KNOWN["whisper_source"]
    assert (folder / "config.json").exists()
    assert (folder / "model.safetensors").exists()


def test_the_section_tells_the_results_and_its_links_lead_from_there():
    moved = tool.moved(
        "[a](../../RAVDESS/qieemo/README.md) [b](hparams/x.yaml)"
    )
    assert (
        moved == "[a](../RAVDESS/qieemo/README.md) [b](qieemo/hparams/x.yaml)"
    )
    for kept in ("[a](https://x.org/a)", "[a](#results)"):
        assert tool.moved(kept) == kept
    assert "## Results\n" in tool.make_section()


def test_results_of_a_run_stay_behind(checkout, monkeypatch, tmp_path):
    root = tmp_path / "ours"
    for dataset in tool.DATASETS:
        folder = root / "recipes" / dataset / "qieemo"
        for part in ("hparams", "results", "__pycache__"):
            (folder / part).mkdir(parents=True)
            (folder / part / "a.txt").touch()
        (folder / "README.md").write_text("# A\n## Results\nNone.\n")
    monkeypatch.setattr(tool, "ROOT", root)
    tool.drop_in(checkout)
    files = [p.name for p in (checkout / "recipes/RAVDESS/qieemo").iterdir()]
    assert sorted(files) == ["README.md", "hparams"]


def test_what_is_no_checkout_is_told_so(tmp_path):
    done = subprocess.run(
        [sys.executable, TOOL, tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "is no SpeechBrain checkout: it has no recipes" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


# -- SpeechBrain's own checks, for whoever changes a recipe without it --------


@pytest.mark.parametrize("path", recipe_yamls())
def test_every_key_of_a_yaml_is_read_by_its_script(path):
    path = ROOT / path
    script = tool.yamls(path.parts[-4])[path.name]
    # The scripts of the other recipes are links to these.
    code = (ROOT / "recipes/IEMOCAP/qieemo" / script).read_text()
    text = path.read_text()
    spelled = tuple(re.findall(r'\[f"\{\w+\}(\w+)"\]', code))
    for key in re.findall(r"^(\w+):(?!.*(?:!apply|!!))", text, re.MULTILINE):
        after = text[text.index(f"\n{key}:") + 1 :]
        read = re.search(rf'\["{key}"\]|(hparams|modules)\.{key}', code)
        assert read or f"<{key}>" in after or key.endswith(spelled), key


def entries(path, banner):
    """Text of each top-level entry of a yaml after a banner, by key."""
    text = path.read_text().partition(banner)[2]
    found = re.findall(r"^(\w+):(.*\n(?:[ -].*\n)*)", text, re.MULTILINE)
    assert found
    return dict(found)


@pytest.mark.parametrize(
    "names, banner",
    [
        (["qieemo.yaml", "manifest.yaml", "emobox.yaml"], "## All corpora ##"),
        (["ppg.yaml"], "## Tokens ##"),
    ],
)
def test_yaml_differ_in_their_corpus_alone(names, banner):
    places = [
        recipe / "hparams" / n
        for recipe in (IEMOCAP, RAVDESS, MULTI)
        for n in names
    ]
    texts = [path.read_text() for path in places if path.exists()]
    assert len(texts) > 1
    assert len({text.partition(banner)[2] for text in texts}) == 1


@pytest.mark.parametrize(
    "name, of, own",
    [
        ("demo.yaml", "qieemo.yaml", "encoder transcriber cma classifier"),
        ("mixture.yaml", "qieemo.yaml", "block_statistics classifier"),
        ("ppg.yaml", "ppg.yaml", "tokenizer"),
        ("ppg_ravdess.yaml", "ppg.yaml", "tokenizer"),
    ],
)
def test_synthetic_yaml_differ_in_plain_values_alone(name, of, own):
    """Outside of the corpus and of the objects named here."""
    banner = "## Tokens ##" if "ppg" in name else "## All corpora ##"
    ours = entries(SYNTHETIC / "hparams" / name, banner)
    theirs = entries(IEMOCAP / "hparams" / of, banner)
    assert list(ours) == [key for key in theirs if key in ours]
    changed = {key for key in ours if ours[key] != theirs[key]}
    wired = {key for key in changed if "!" in ours[key] + theirs[key]}
    assert wired == set(own.split())


@pytest.mark.parametrize("path", recipe_yamls())
def test_no_yaml_is_longer_than_120_lines(path):
    assert (ROOT / path).read_text().count("\n") <= 120

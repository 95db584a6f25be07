#!/usr/bin/env python3
"""Put the recipes into a SpeechBrain checkout, with the tests it wants.

> python tools/speechbrain_dropin.py /path/to/speechbrain

Adds, or brings up to date:

    recipes/IEMOCAP/qieemo, recipes/RAVDESS/qieemo
    recipes/IEMOCAP/README.md           a section, between two marks
    tests/recipes/IEMOCAP.csv           a row a yaml of the recipe
    tests/recipes/RAVDESS.csv           likewise, a new file
    tests/recipes/setup/recipes_*_qieemo_*

and touches nothing else. A second call changes nothing.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import csv
import io
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETUP = Path(__file__).with_name("speechbrain_setup.py")

DATASETS = ("IEMOCAP", "RAVDESS")
NAME = "qieemo"
NEEDED = ("recipes", "tests/recipes/IEMOCAP.csv", "recipes/IEMOCAP/README.md")
LEFT_OUT = {"results", "__pycache__"}  # of a run beside a recipe
BEGIN, END = f"<!-- {NAME}: begin -->\n", f"<!-- {NAME}: end -->\n"

# A key at the top of a yaml → its script; else train.py.
SCRIPTS = {"axes": "ablate.py", "make_ppg_head": "train_ppg.py"}

# -- The options of SpeechBrain's recipe tests, all on its own tests/samples --

SAMPLES, TEMPORARY = "tests/samples", f"tests/tmp/{NAME}"
ALWAYS = {
    "data_folder": f"{SAMPLES}/ASR/",
    "train_annotation": f"{SAMPLES}/annotation/ASR_train.json",
    "valid_annotation": f"{SAMPLES}/annotation/ASR_dev.json",
    "test_annotation": f"{SAMPLES}/annotation/ASR_dev.json",
    "number_of_epochs": 2,
    "skip_prep": True,
}
WHERE_KNOWN = {  # options that only some yaml have
    "test_folder": f"{SAMPLES}/ASR/",
    "emotions": "[neutrality,happiness,anger,sadness]",
    "n_classes": 4,
    "whisper_source": f"{TEMPORARY}/whisper",
    "cache_folder": f"{TEMPORARY}/cache",
}
EVERY_RUN = (
    "train_log.txt log.txt env.log hyperparams.yaml save/options.json "
    "metrics.json model/model.safetensors "
)
# Script → task, further options, files that it leaves.
TESTS = {
    "train.py": (
        "Emotion_recognition",
        "",
        EVERY_RUN + "train.py predictions.csv confusion.png",
    ),
    "train_ppg.py": ("ASR", "", EVERY_RUN + "train_ppg.py readings.txt"),
    "ablate.py": (
        "Emotion_recognition",
        " --folds=1 --row=default",
        "ablation.json ablation.md ablation.png",
    ),
}

NEXT = """\
In {checkout}, with qieemo-sb and SpeechBrain's lint-requirements.txt:

pytest tests/consistency
ruff check recipes/*/qieemo && ruff format --check recipes/*/qieemo
yamllint recipes/*/qieemo
codespell --ignore-words=.dict-speechbrain.txt recipes/*/qieemo
python -c 'from tests.utils.recipe_tests import run_recipe_tests
print(run_recipe_tests(
    filters_fields=["Readme_file"],
    filters=[["recipes/IEMOCAP/qieemo/README.md",
              "recipes/RAVDESS/qieemo/README.md"]],
    do_checks=True,
    run_opts="--device=cpu",
))'"""


class CheckoutError(ValueError):
    """A folder that is no SpeechBrain checkout."""


def drop_in(checkout):
    """Apply everything to a checkout → paths that changed, relative to it."""
    checkout = Path(checkout)
    missing = [name for name in NEEDED if not (checkout / name).exists()]
    if missing:
        raise CheckoutError(
            f"{checkout} is no SpeechBrain checkout: it has no "
            f"{' and no '.join(missing)}. Clone "
            "https://github.com/speechbrain/speechbrain and name that folder."
        )
    files = {"recipes/IEMOCAP/README.md": add_section(checkout)}
    for dataset in DATASETS:
        files |= recipe_files(dataset)
        files |= setup_files(dataset)
        files[f"tests/recipes/{dataset}.csv"] = add_rows(checkout, dataset)
    return [
        Path(path)
        for path, content in files.items()
        if write(checkout / path, content)
    ]


# Below, a file's content is bytes and a mode, or Path: the target of a link.


def recipe_files(dataset):
    """Files of a recipe's folder; links stay links, as SpeechBrain has them."""
    files = {}
    for folder, folders, names in os.walk(ROOT / "recipes" / dataset / NAME):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        for path in sorted(Path(folder, n) for n in names if n[0] != "."):
            link = path.is_symlink()
            files[path.relative_to(ROOT).as_posix()] = (
                path.readlink()
                if link
                else (path.read_bytes(), path.stat().st_mode & 0o755)
            )
    return files


def yamls(dataset):
    """A recipe's yaml → the script that reads it, sorted."""
    found = {}
    folder = ROOT / "recipes" / dataset / NAME / "hparams"
    for path in sorted(folder.glob("*.yaml")):
        keys = top_keys(path)
        scripts = [script for key, script in SCRIPTS.items() if key in keys]
        found[path.name] = (scripts or ["train.py"])[0]
    return found


def top_keys(path):
    """The keys at the top of a yaml."""
    text = path.read_text(encoding="utf-8")
    return re.findall(r"^(\w+):", text, re.MULTILINE)


def add_rows(checkout, dataset):
    """A dataset's table with a row a yaml; rows of others stay as they are."""
    table = checkout / f"tests/recipes/{dataset}.csv"
    # A new table has the columns of one that is there.
    known = table if table.exists() else table.with_name("IEMOCAP.csv")
    head, *rows = known.read_text(encoding="utf-8").splitlines()
    ours = f",recipes/{dataset}/{NAME}/"
    others = [row for row in rows if known == table and ours not in row]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, head.split(","), extrasaction="ignore", lineterminator="\n"
    )
    for name, script in yamls(dataset).items():
        writer.writerow(make_row(dataset, name, script))
    return "\n".join([head, *others, text.getvalue()]).encode(), 0o644


def make_row(dataset, name, script):
    """A yaml's row in a table."""
    folder = f"recipes/{dataset}/{NAME}"
    path = ROOT / folder / "hparams" / name
    if script == "ablate.py":  # takes the options of the yaml it starts from
        text = path.read_text(encoding="utf-8")
        path = path.with_name(re.search(r"^hparams: (\S+)", text, re.M)[1])
    known = top_keys(path)
    options = ALWAYS | {k: v for k, v in WHERE_KNOWN.items() if k in known}
    task, more, leaves = TESTS[script]
    return {
        "Task": task,
        "Dataset": dataset,
        "Script_file": f"{folder}/{script}",
        "Hparam_file": f"{folder}/hparams/{name}",
        "Data_prep_file": f"{folder}/{dataset.lower()}_prepare.py",
        "Readme_file": f"{folder}/README.md",
        "test_debug_flags": " ".join(f"--{k}={v}" for k, v in options.items())
        + more,
        "test_debug_checks": f"file_exists=[{','.join(leaves.split())}]",
    }


def setup_files(dataset):
    """Programs that run_recipe_tests runs before a yaml with a Whisper."""
    program = f"tests/recipes/setup/recipes_IEMOCAP_{NAME}_train/hparams_{NAME}"
    files = {}
    for name, script in yamls(dataset).items():
        if (
            "whisper_source"
            in make_row(dataset, name, script)["test_debug_flags"]
        ):
            folder = f"recipes_{dataset}_{NAME}_{script.removesuffix('.py')}"
            stem = name.removesuffix(".yaml")
            path = f"tests/recipes/setup/{folder}/hparams_{stem}"
            files[path] = Path(os.path.relpath(program, os.path.dirname(path)))
    if program in files:
        files[program] = SETUP.read_bytes(), 0o755
    return files


def add_section(checkout):
    """IEMOCAP's README with the recipe's section before "About"."""
    readme = checkout / "recipes/IEMOCAP/README.md"
    text = readme.read_text(encoding="utf-8")
    section = BEGIN + make_section() + END
    if BEGIN in text and END not in text:
        raise CheckoutError(f"{readme}: {BEGIN.strip()} stands without its end")
    if BEGIN in text:
        before, rest = text.split(BEGIN, 1)
        new = before + section + rest.split(END, 1)[1]
    else:
        about = re.search(r"^# \**About", text, re.MULTILINE)
        place = about.start() if about else len(text)
        new = text[:place].rstrip("\n") + f"\n\n{section}\n" + text[place:]
    return new.encode(), 0o644


def make_section():
    """The section: how to run, and the recipe's own results."""
    readme = ROOT / "recipes/IEMOCAP" / NAME / "README.md"
    text = readme.read_text(encoding="utf-8")
    results = re.search(r"^## Results\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    return (
        "# Training Qieemo (ASR encoder, MMF, CMA)\n"
        f"Go to [{NAME}]({NAME}/README.md), which says more, and run:\n"
        "`pip install -r extra_requirements.txt` and "
        f"`python train.py hparams/{NAME}.yaml "
        "--data_folder /path/to/IEMOCAP_full_release`\n\n"
        f"## Results\n{moved(results)}"
    )


def moved(text):
    """Markdown whose relative links are to be read one folder higher."""

    def move(match):
        target = match[1]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        return f"]({os.path.normpath(os.path.join(NAME, target))})"

    return re.sub(r"\]\(([^)]+)\)", move, text)


def write(path, content):
    """Write a file or link unless it is as it should be → True if written."""
    if isinstance(content, Path):
        if path.is_symlink() and path.readlink() == content:
            return False
    elif path.is_file() and not path.is_symlink():
        executable = bool(path.stat().st_mode & 0o100)
        if (path.read_bytes(), executable) == (
            content[0],
            bool(content[1] & 0o100),
        ):
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if isinstance(content, Path):
        path.symlink_to(content)
    else:
        path.write_bytes(content[0])
        path.chmod(0o755 if content[1] & 0o100 else 0o644)
    return True


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, help="of SpeechBrain")
    checkout = parser.parse_args(arguments).checkout
    changed = drop_in(checkout)
    print(*changed, f"{len(changed)} files changed.\n", sep="\n")
    print(NEXT.format(checkout=checkout))


if __name__ == "__main__":
    try:
        main()
    except CheckoutError as error:
        sys.exit(f"\n{error}")

#!/usr/bin/env python3
"""Put the recipes into a SpeechBrain checkout, with the tests it wants.

> python tools/speechbrain_dropin.py /path/to/speechbrain

Adds, or brings up to date:

    recipes/IEMOCAP/qieemo, recipes/RAVDESS/qieemo
    recipes/IEMOCAP/README.md           a section, between two marks
    tests/recipes/IEMOCAP.csv           a row a yaml of the recipe
    tests/recipes/RAVDESS.csv           likewise, a new file
    tests/recipes/setup/recipes_*_qieemo_*

and touches nothing else. A second call changes nothing. Files are written
whole or not at all.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import csv
import io
import json
import os
import re
import sys
from pathlib import Path

from qieemo_sb.corpora.manifest import replacing

ROOT = Path(__file__).resolve().parents[1]
SETUP = Path(__file__).with_name("speechbrain_setup.py")

DATASETS = ("IEMOCAP", "RAVDESS")
NAME = "qieemo"
CSVS, SETUPS = "tests/recipes", "tests/recipes/setup"
NEEDED = ("recipes", f"{CSVS}/IEMOCAP.csv", "recipes/IEMOCAP/README.md")
LEFT_OUT = {"results", "__pycache__"}  # what a run leaves beside a recipe

BEGIN, END = f"<!-- {NAME}: begin -->", f"<!-- {NAME}: end -->"
ABOUT = re.compile(r"^# \**About", re.MULTILINE)  # what ends a README

# What a yaml that has one of these at the top is given to; else train.py.
SCRIPTS = {"axes": "ablate.py", "make_ppg_head": "train_ppg.py"}

# -- What SpeechBrain's recipe tests are told, all on its own tests/samples --

SAMPLES, TEMPORARY = "tests/samples", f"tests/tmp/{NAME}"
ALWAYS = {
    "data_folder": f"{SAMPLES}/ASR/",
    "train_annotation": f"{SAMPLES}/annotation/ASR_train.json",
    "valid_annotation": f"{SAMPLES}/annotation/ASR_dev.json",
    "test_annotation": f"{SAMPLES}/annotation/ASR_dev.json",
    "number_of_epochs": 2,
    "skip_prep": True,
}
# Options that only some yaml have.
WHERE_KNOWN = {
    "test_folder": f"{SAMPLES}/ASR/",
    "emotions": "[neutrality,happiness,anger,sadness]",
    "n_classes": 4,
    "whisper_source": f"{TEMPORARY}/whisper",
    "cache_folder": f"{TEMPORARY}/cache",
}
OF_SCRIPT = {"ablate.py": ["--folds=1", "--row=default"]}
EVERY_RUN = ["train_log.txt", "log.txt", "env.log", "hyperparams.yaml"]
LEAVES = {
    "train.py": [
        *EVERY_RUN,
        "train.py",
        "save/options.json",
        "metrics.json",
        "predictions.csv",
        "confusion.png",
        "model/model.safetensors",
    ],
    "train_ppg.py": [
        *EVERY_RUN,
        "train_ppg.py",
        "save/options.json",
        "metrics.json",
        "readings.txt",
        "model/model.safetensors",
    ],
    "ablate.py": ["ablation.json", "ablation.md", "ablation.png"],
}
TASKS = {"train_ppg.py": "ASR"}  # else Emotion_recognition

NEXT = """\
In {checkout}, with qieemo-sb and SpeechBrain's lint-requirements.txt:

pytest tests/consistency
ruff check recipes/*/qieemo && ruff format --check recipes/*/qieemo
yamllint recipes/*/qieemo
codespell --ignore-words=.dict-speechbrain.txt recipes/*/qieemo
python -c 'from tests.utils.recipe_tests import run_recipe_tests
print(run_recipe_tests(
    filters_fields=["Readme_file"],
    filters=[{readmes}],
    do_checks=True,
    run_opts="--device=cpu",
))'"""


class CheckoutError(ValueError):
    """A folder that is no SpeechBrain checkout."""


def drop_in(checkout):
    """Apply everything to a checkout → paths that changed, relative to it."""
    checkout = Path(checkout)
    check(checkout)
    changed = []
    for dataset in DATASETS:
        changed += copy_recipe(checkout, dataset)
        changed += [add_rows(checkout, dataset)]
        changed += add_setup(checkout, dataset)
    changed += [add_section(checkout)]
    return [path.relative_to(checkout) for path in changed if path]


def check(checkout):
    """Raise CheckoutError unless all that is added to is there."""
    missing = [name for name in NEEDED if not (checkout / name).exists()]
    if missing:
        raise CheckoutError(
            f"{checkout} is no SpeechBrain checkout: it has no "
            f"{' and no '.join(missing)}. Clone "
            "https://github.com/speechbrain/speechbrain and name that folder."
        )


def copy_recipe(checkout, dataset):
    """Copy a recipe's folder; its links stay links, as SpeechBrain has them."""
    place = Path("recipes", dataset, NAME)
    changed = []
    for folder, folders, files in os.walk(ROOT / place):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        for name in sorted(n for n in files if n[0] != "."):
            source = Path(folder, name)
            target = checkout / source.relative_to(ROOT)
            if source.is_symlink():
                done = link(target, os.readlink(source))
            else:
                done = write(target, source.read_bytes(), source.stat().st_mode)
            changed += [target] * done
    return changed


def yamls(dataset):
    """A recipe's yaml → the script that it is given to, sorted."""
    found = {}
    for path in sorted((ROOT / "recipes" / dataset / NAME).glob("hparams/*")):
        if path.suffix == ".yaml":
            keys = top_keys(path)
            scripts = [SCRIPTS[key] for key in SCRIPTS if key in keys]
            found[path.name] = (scripts or ["train.py"])[0]
    return found


def top_keys(path):
    """The keys at the top of a yaml."""
    text = path.read_text(encoding="utf-8")
    return re.findall(r"^(\w+):", text, re.MULTILINE)


def add_rows(checkout, dataset):
    """Put a row a yaml into a dataset's table → its path if it changed."""
    table = checkout / CSVS / f"{dataset}.csv"
    # A new table has the columns of one that is there.
    known = table if table.exists() else checkout / CSVS / "IEMOCAP.csv"
    lines = known.read_text(encoding="utf-8").splitlines()
    head, rows = lines[0], lines[1:] if known == table else []
    own = f",recipes/{dataset}/{NAME}/"
    text = io.StringIO()
    writer = csv.DictWriter(
        text, head.split(","), extrasaction="ignore", lineterminator="\n"
    )
    for name, script in yamls(dataset).items():
        writer.writerow(make_row(dataset, name, script))
    # Rows of others stay as they were typed.
    others = [row for row in rows if own not in row]
    new = "\n".join([head, *others, text.getvalue()])
    return table if write(table, new.encode()) else None


def make_row(dataset, name, script):
    """What a table says of a yaml."""
    folder = f"recipes/{dataset}/{NAME}"
    return {
        "Task": TASKS.get(script, "Emotion_recognition"),
        "Dataset": dataset,
        "Script_file": f"{folder}/{script}",
        "Hparam_file": f"{folder}/hparams/{name}",
        "Data_prep_file": f"{folder}/{dataset.lower()}_prepare.py",
        "Readme_file": f"{folder}/README.md",
        "test_debug_flags": flags(ROOT / folder / "hparams" / name, script),
        "test_debug_checks": f"file_exists=[{','.join(LEAVES[script])}]",
    }


def flags(path, script):
    """The command line with which a yaml runs on tests/samples."""
    if script == "ablate.py":  # options are those of the yaml it starts from
        (start,) = re.findall(
            r"^hparams: (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        path = path.with_name(start)
    known = top_keys(path)
    options = [
        *ALWAYS.items(),
        *((key, value) for key, value in WHERE_KNOWN.items() if key in known),
    ]
    given = [f"--{key}={value}" for key, value in options]
    return " ".join([*given, *OF_SCRIPT.get(script, [])])


def add_setup(checkout, dataset):
    """What run_recipe_tests runs before a yaml that needs a Whisper."""
    changed = []
    program = checkout / SETUPS / f"recipes_IEMOCAP_{NAME}_train/hparams_{NAME}"
    if dataset == "IEMOCAP" and write(program, SETUP.read_bytes(), 0o755):
        changed.append(program)
    for name, script in yamls(dataset).items():
        row = make_row(dataset, name, script)
        if "whisper_source" not in row["test_debug_flags"]:
            continue
        folder = row["Script_file"].removesuffix(".py").replace("/", "_")
        path = checkout / SETUPS / folder / f"hparams_{Path(name).stem}"
        if path != program:
            target = os.path.relpath(program, path.parent)
            changed += [path] * link(path, target)
    return changed


def add_section(checkout):
    """Put the recipe into IEMOCAP's README → its path if it changed."""
    readme = checkout / "recipes/IEMOCAP/README.md"
    text = readme.read_text(encoding="utf-8")
    section = f"{BEGIN}\n{make_section()}{END}\n"
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        _, mark, after = rest.partition(f"{END}\n")
        if not mark:
            raise CheckoutError(f"{readme}: {BEGIN} stands there without {END}")
    else:
        about = ABOUT.search(text)
        place = about.start() if about else len(text)
        before, after = text[:place].rstrip("\n") + "\n\n", "\n" + text[place:]
    new = before + section + after
    return readme if write(readme, new.encode()) else None


def make_section():
    """What IEMOCAP's README says: how to run, and the recipe's own results."""
    own = (ROOT / "recipes/IEMOCAP" / NAME / "README.md").read_text(
        encoding="utf-8"
    )
    results = re.search(r"^## Results\n(.*?)(?=^## |\Z)", own, re.M | re.S)[1]
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


def write(path, data, mode=0o644):
    """Write a file unless it is as it should be → whether it was written."""
    mode = 0o755 if mode & 0o100 else 0o644
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        if bool(path.stat().st_mode & 0o100) == bool(mode & 0o100):
            return False
    with replacing(path) as partial:
        partial.write_bytes(data)
        partial.chmod(mode)
    return True


def link(path, target):
    """Make a symbolic link unless it is there → whether it was made."""
    if path.is_symlink() and os.readlink(path) == target:
        return False
    with replacing(path) as partial:
        partial.symlink_to(target)
    return True


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, help="of SpeechBrain")
    checkout = parser.parse_args(arguments).checkout
    changed = drop_in(checkout)
    print(*changed, f"{len(changed)} files changed.\n", sep="\n")
    readmes = [f"recipes/{dataset}/{NAME}/README.md" for dataset in DATASETS]
    print(NEXT.format(checkout=checkout, readmes=json.dumps(readmes)))


if __name__ == "__main__":
    try:
        main()
    except CheckoutError as error:
        sys.exit(f"\n{error}")

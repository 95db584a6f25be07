#!/usr/bin/env python3
"""Make the model that ships of a finished run on openly licensed corpora.

> python tools/make_pretrained.py RUN pretrained/open
> python recipes/MultiCorpus/qieemo/examine.py RUN --data_root DIR \
      --model pretrained/open
> python tools/make_pretrained.py RUN pretrained/open  # with its tables

RUN is the output folder of recipes/MultiCorpus/qieemo/train.py. Parameters are
stored in float16, which halves the folder. The tables of examine.py, once they
are there, go into the card.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import json
from pathlib import Path

import torch

from qieemo_sb.evaluation.model_card import model_card
from qieemo_sb.serving.folder import load_folder, save_model

WORDS = {  # of any card → of this one
    "# Qieemo, several": "# Qieemo base",
    " of several, fold 1,": " of corpora that it has not heard,",
    "The checkpoint was chosen on validation data; "
    "the test data was used once.":
    "Some options of training were chosen by these figures, which are\n"
    "therefore a little too good; calibration by validation speakers alone.",
}  # fmt: skip
METADATA = {
    "license": "odbl",
    "license_name": None,
    "language": ["en", "de"],
    "datasets": ["CREMA-D", "EmoDB", "speechocean762"],
}
ABOUT = """
## Training data and licence

These weights may be used commercially, under the **Open Database License 1.0**
of CREMA-D where it applies to a model: keep this notice. They were trained on

- CREMA-D (H. Cao et al., 2014, doi 10.1109/TAFFC.2014.2336244; ODbL 1.0):
  7 441 clips of 91 actors, English; half of each target is the votes of its
  listeners, half the actor's intention;
- EmoDB (F. Burkhardt et al., 2005; CC0 1.0): the 454 clips of 10 actors,
  German, that are not bored;
- speechocean762 (J. Zhang et al., 2021, OpenSLR 101; free for any use): 2 500
  clips of 125 people who read English, as neutral, with a small weight; and the
  transcripts of the same clips for the PPG head.

The encoder is that of Whisper base (OpenAI, MIT licence), frozen. All
parameters are rounded to float16. The code that made them is under the Apache
License 2.0.
"""


def main():
    """Save, write the card."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="output folder of train.py")
    parser.add_argument("folder", type=Path, help="where the model is put")
    options = parser.parse_args()
    metrics = json.loads((options.run / "metrics.json").read_text())
    loaded = load_folder(options.run / "model")
    model, labels, tokens = loaded.model, loaded.labels, loaded.tokens
    card = model_card(metrics, **METADATA)
    for general, own in WORDS.items():
        card = card.replace(general, own)
    card += tables(options.run) + ABOUT
    save_model(options.folder, model, card, labels, tokens, dtype=torch.float16)
    size = sum(p.stat().st_size for p in options.folder.iterdir()) / 1e6
    print(f"{options.folder}: {size:.1f} MB")


def tables(run):
    """What examine.py found, as a chapter."""
    path = run / "examine.md"
    if not path.exists():
        return ""
    _, _, text = path.read_text(encoding="utf-8").partition("\n")
    return f"\n## Where it works\n{text}"


if __name__ == "__main__":
    main()

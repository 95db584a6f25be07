"""A yaml, and a script that stands in for train.py and takes no time."""

YAML = """\
seed: 1986
__set_seed: !apply:speechbrain.utils.seed_everything [!ref <seed>]
corpus: RAVDESS
data_folder: null
folds: [1, 2, 3, 4, 5, 6]
fold: 1
adapt_to: null
emotions: [calm, upset]
output_folder: !ref results/x/fold_<fold>/<seed>
save_folder: !ref <output_folder>/save
cache_folder: results/cache
skip_prep: False
prepare: !name:qieemo_sb.corpora.named.prepare_named
    corpus: !ref <corpus>
    data_folder: !ref <data_folder>
    output_folder: !ref <output_folder>
    fold: !ref <fold>
width: 96 # a comment, which no other yaml may trip over
size: !ref 2 * <width>
model: !new:torch.nn.Linear
    in_features: 2
    out_features: 3
part: !new:collections.Counter
    size: !ref <size>
"""

# Gets the fold-th of four of one class right, and the seed-th of the other.
TRAIN = """\
import json, pathlib, sys
options = dict(a[2:].split("=", 1) for a in sys.argv[2:] if "=" in a)
fold, seed = int(options["fold"]), int(options["seed"])
folder = pathlib.Path(options["output_folder"])
with open(folder / "calls.txt", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
print("hello\\rbar 1/2\\rbar 2/2")
if pathlib.Path("broken").exists() and fold == 2:
    sys.exit("this went wrong")
confusion = [[fold, 4 - fold], [4 - seed, seed]]
recalls = [fold / 4, seed / 4]
metrics = {
    "weighted_accuracy": sum(recalls) / 2,
    "unweighted_accuracy": sum(recalls) / 2,
    "weighted_f1": 0.5,
    "macro_f1": 0.5,
    "num_utterances": 8,
    "labels": ["calm", "upset"],
    "confusion_matrix": confusion,
    "corpus": "RAVDESS", "fold": fold, "seed": seed,
}
if options.get("adapt_to"):
    metrics["adaptation"] = {
        "clips": [0, 60], "weighted_accuracy": [fold / 8, fold / 4],
        "emotions": [1, 2], "unadapted": [fold / 8, fold / 4],
        "all_as_voice": [0, 0], "adapted": [fold / 4, fold / 8],
    }
(folder / "metrics.json").write_text(json.dumps(metrics))
"""

#!/usr/bin/env python3
"""Emotion across corpora: each left out in turn, and trained on alone.

To use it, do the following (every other option of train.py may follow):
> python cross_corpus.py hparams/qieemo.yaml --data_root DIR \
      --corpora "[ravdess, cremad, emodb]" --emotions 4 --matrix

Every model is trained plain, adapted to the corpus and adapted to the speaker;
a linear probe of block statistics stands beside it. The table is
cross_corpus.json, cross_corpus.md and cross_corpus.png in the output folder.
What is finished is not run again. With --probe_only nothing is trained; with
--ray, runs go side by side on a Ray cluster, or on this machine's cores.

Authors
 * The Qieemo-SB authors 2026
"""

from pathlib import Path

import command_line
from qieemo_sb.corpora.named import find_corpus
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import cross_corpus, probes
from qieemo_sb.training.hparams import check_corpus, load_part

import speechbrain as sb

TRAIN = Path(__file__).absolute().with_name("train.py")


def main(arguments):
    """Probe, run what is not finished → exit status, 1 if a run failed."""
    parser = command_line.make_parser(__doc__, "yaml of train.py")
    command_line.add_run_options(parser)
    parser.set_defaults(output_folder=Path("results/cross_corpus"))
    add = parser.add_argument
    add("--corpora", required=True, help="'[ravdess, cremad]'")
    add("--emotions", type=int, default=4, help="the yaml's first so many (4)")
    add("--matrix", action="store_true", help="each corpus alone, too")
    add("--probe_only", action="store_true", help="train nothing")
    options, rest = parser.parse_known_args(arguments)
    words = [str(options.hparams), *rest, f"--corpora={options.corpora}"]
    yaml, run_opts, overrides = sb.parse_arguments(words)
    check_corpus(yaml, overrides)
    task = load_part(yaml, overrides, "corpora", "emotions", "label_map")
    emotions = task["emotions"][: options.emotions]
    if len(emotions) < max(2, options.emotions):
        raise EvaluationError(
            f"--emotions {options.emotions}: 2 to {len(task['emotions'])} of "
            f"{yaml} can be used."
        )
    names = [find_corpus(corpus).name for corpus in task["corpora"]]
    wanted = cross_corpus.experiments(names, options.matrix)
    options.output_folder /= f"{options.emotions}_emotions"
    command = ["cross_corpus.py", *arguments]
    title = f"Across corpora, {options.emotions} emotions"
    configuration = command_line.configure(
        options, TRAIN, yaml, rest, command, title=title
    )
    planned = cross_corpus.plan(
        configuration, wanted, emotions, task["label_map"]
    )
    folder = configuration.folder
    clips, features = prepare(yaml, overrides, emotions, run_opts, folder)
    probed = cross_corpus.probe(features, clips, emotions, wanted)
    executor = command_line.make_executor(options)
    if options.probe_only:
        executor = train_nothing
    about = {**configuration.about, "emotions": emotions}
    result = cross_corpus.cross_corpora(
        planned, probed, folder, executor, about
    )
    print(f"\n{cross_corpus.describe(result)}\nIn {folder}:", end=" ")
    print("cross_corpus.json, cross_corpus.md, cross_corpus.png")
    return 1 if result["failed"] else 0


def train_nothing(runs):
    """Executor that leaves all runs as they are."""
    return ()


def prepare(yaml, overrides, emotions, run_opts, folder):
    """All clips of all corpora, and the statistics of their blocks."""
    parts = probes.read_fold(
        yaml,
        overrides,
        emotions=emotions,
        test_corpora=[],
        output_folder=str(folder / "clips"),
    )
    clips = [clip for part in parts for clip in part]
    statistics, hparams = probes.pooled_statistics(
        yaml, overrides, clips, folder, run_opts["device"]
    )
    blocks = hparams["emotional_blocks"]
    return clips, {i: x[blocks].ravel() for i, x in statistics.items()}


if __name__ == "__main__":
    command_line.run(main)

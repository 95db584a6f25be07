#!/usr/bin/env python3
"""A linear probe for emotion on each block of an encoder.

To use it, do the following (options of train.py may follow):
> python probe_blocks.py hparams/qieemo.yaml --data_folder DIR

The encoder runs over the corpus once; mean and standard deviation of each
block's frames are kept in the yaml's cache_folder, so a second call takes as
long as the probes do. The table is probe.json, probe.md and probe.png in the
output folder. With --speaker_normalise a second table has each speaker's own
mean and scale removed, which takes unlabelled speech of those who are tested.

Authors
 * The Qieemo-SB authors 2026
"""

from pathlib import Path

import command_line
from qieemo_sb.evaluation import probes

import speechbrain as sb


def main(arguments):
    """Encode, probe, write."""
    parser = command_line.make_parser(__doc__, "yaml of train.py")
    parser.add_argument("--C", type=float, default=0.01, help="penalty (0.01)")
    parser.add_argument("--speaker_normalise", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    yaml, run_opts, overrides = sb.parse_arguments(
        [str(options.hparams), *rest]
    )
    given, command = (Path(__file__), yaml, rest), ["probe_blocks.py"]
    command += arguments
    configuration = command_line.configure(options, *given, command, "probe")
    folder = configuration.folder
    folds = probes.read_folds(configuration)
    parts = [utt for fold in folds.values() for part in fold for utt in part]
    statistics, hparams = probes.pooled_statistics(
        yaml, overrides, parts, folder, run_opts["device"]
    )
    rest = folds, hparams["emotions"], options.C, hparams["emotional_blocks"]
    tables = {probes.UNADAPTED: probes.probe_blocks(statistics, *rest)}
    if options.speaker_normalise:
        speakers = {utt.utt_id: utt.spk_id for utt in parts}
        statistics = probes.normalise_speakers(statistics, speakers)
        tables[probes.ADAPTED] = probes.probe_blocks(statistics, *rest)
    title = configuration.about["title"] + ": probes"
    about = {**configuration.about, "title": title}
    result = {**about, "C": options.C, "tables": tables}
    probes.write_probe(result, folder)
    print(f"\n{probes.describe(result)}")
    print(f"In {folder}: probe.json, probe.md, probe.png")


if __name__ == "__main__":
    command_line.run(main)

"""One's own corpus as a CSV, on a frozen encoder whose outputs are kept."""

import json
import os

from runs import IEMOCAP, train

LABELS = ["calm", "upset", "glad"]


def arguments(corpus, table, whisper, folder):
    return [
        "hparams/manifest.yaml",
        f"--data_folder={os.path.relpath(corpus, IEMOCAP)}",
        f"--csv_file={table}",
        f"--whisper_source={whisper}",
        f"--output_folder={folder / 'run'}",
        f"--cache_folder={folder / 'cache'}",
        f"--emotions={LABELS}",
        "--n_classes=3",
        "--emotional_blocks=[1, 2]",
        "--number_of_epochs=1",
        "--num_workers=0",
    ]


def test_a_csv_is_trained_on_with_its_own_labels_and_the_cache_serves_again(
    corpus, table, whisper, tmp_path
):
    options = arguments(corpus, table, whisper, tmp_path)
    code, printed = train(IEMOCAP, *options)
    assert code == 0, printed
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["labels"] == LABELS
    speakers = [
        {
            entry["spk_id"]
            for entry in json.loads(
                (tmp_path / f"run/{split}.json").read_text()
            ).values()
        }
        for split in ("train", "valid", "test")
    ]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 10
    kept = {path: path.stat().st_mtime_ns for path in cache_files(tmp_path)}
    assert len(kept) == sum(1 for _ in open(table)) - 1

    # Without its checkpoints the run starts afresh; the encoder is not run.
    options[4] = f"--output_folder={tmp_path / 'again'}"
    code, printed = train(IEMOCAP, *options)
    assert code == 0, printed
    again = {path: path.stat().st_mtime_ns for path in cache_files(tmp_path)}
    assert again == kept
    repeated = json.loads((tmp_path / "again/metrics.json").read_text())
    assert repeated == metrics


def test_labels_may_be_numbers(corpus, table, whisper, tmp_path):
    numbered = tmp_path / "numbered.csv"
    text = table.read_text()
    for i, label in enumerate(LABELS):
        text = text.replace(f",{label},", f",{i},")
    numbered.write_text(text)
    options = arguments(corpus, numbered, whisper, tmp_path)
    options[6] = "--emotions=[0, 1, 2]"
    code, printed = train(IEMOCAP, *options)
    assert code == 0, printed
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["labels"] == ["0", "1", "2"]


def cache_files(folder):
    return list((folder / "cache").glob("*/*.npy"))

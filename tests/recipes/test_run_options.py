"""SpeechBrain's run options: each works, or says that it does not."""

import json

import pytest
from runs import IEMOCAP, TUNED, show_graphs, small, train

from qieemo_sb.corpora.iemocap import prepare_iemocap

pytestmark = pytest.mark.slow


def test_bf16_debug_device_skip_prep_and_compile(corpus, whisper, tmp_path):
    counts = corpus / "expected_counts.json"
    prepare_iemocap(corpus, tmp_path, fold=5, expected_counts=counts)
    splits = ("train", "valid", "test")
    given = [f"--{s}_annotation={tmp_path / s}.json" for s in splits]
    output = tmp_path / "run"
    code, printed = train(
        IEMOCAP,
        *small(corpus, whisper, output, *TUNED, *given, epochs=5),
        "--num_workers=0",
        "--skip_prep=True",
        "--device=cpu",
        "--precision=bf16",
        "--eval_precision=bf16",
        "--debug",
        "--compile",
        before=show_graphs,
    )
    assert code == 0, printed
    assert not (output / "prepare.json").exists()  # --skip_prep
    assert "--precision=bf16" in printed
    log = (output / "train_log.txt").read_text()
    assert log.count("train loss") == 2  # --debug: two epochs ...
    assert not list(output.glob("save/CKPT*"))  # ... whose weights go
    # Before and after attention, for one number of frames, for any, and both
    # again without gradients; not a graph for each block or batch.
    assert 0 < printed.count("compiled a graph") <= 8
    metrics = json.loads((output / "metrics.json").read_text())
    # --debug: two batches of at most sixteen are tested.
    tested = json.loads((tmp_path / "test.json").read_text())
    assert 1 < metrics["num_utterances"] <= min(32, len(tested))

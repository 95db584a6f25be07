"""SpeechBrain's run options: each works, or says that it does not."""

import json

from runs import SYNTHETIC, demo, train

from qieemo_sb.corpora.iemocap import prepare_iemocap

# Shows what is compiled, without the C++ compiler that a tester may lack.
COMPILER = """\
import functools, runpy, sys, torch
def show(graph, _):
    print("compiled a graph")
    return graph.forward
torch.compile = functools.partial(torch.compile, backend=show)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_bf16_debug_device_skip_prep_and_compile(corpus, tmp_path):
    prepare_iemocap(
        corpus,
        tmp_path,
        fold=5,
        expected_counts=corpus / "expected_counts.json",
    )
    splits = ("train", "valid", "test")
    given = [f"--{s}_annotation={tmp_path / s}.json" for s in splits]
    output = tmp_path / "run"
    code, printed = train(
        SYNTHETIC,
        *demo(corpus, output, epochs=5),
        *given,
        "--skip_prep=True",
        "--device=cpu",
        "--precision=bf16",
        "--eval_precision=bf16",
        "--debug",
        "--compile",
        launcher=("-c", COMPILER),
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


def test_jit_is_refused_before_anything_is_done(corpus, tmp_path):
    code, printed = train(SYNTHETIC, *demo(corpus, tmp_path), "--jit")
    assert code != 0
    assert "TorchScript cannot compile Qieemo; use --compile" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "train.json").exists()

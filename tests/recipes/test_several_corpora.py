"""Several corpora with labels of their own; refit; EmoBox's folds."""

import csv
import json
import math
import shutil
from functools import partial

import pytest
import torch
from runs import MULTI, die, train
from safetensors.torch import load_file
from toys import enter_toys, write_clip, write_toys

from qieemo_sb import EncoderClassifier

pytestmark = pytest.mark.slow

EMOTIONS = ["neutral", "sad", "bored"]
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_toys(tmp_path_factory.mktemp("toys"))


def options(root, whisper, output, yaml="qieemo"):
    return [
        f"hparams/{yaml}.yaml",
        f"--whisper_source={whisper}",
        f"--output_folder={output}",
        f"--cache_folder={root / 'cache'}",
        "--emotional_blocks=[1, 2]",
        "--number_of_epochs=3",
        "--probe_c=0.1",
        "--num_workers=0",
        "--noprogressbar",
    ]


def several(root, whisper, output):
    """Everything that several corpora may need at once."""
    return [
        *options(root, whisper, output),
        f"--data_root={root}",
        "--corpora=[Ann, Bob]",
        f"--emotions={EMOTIONS}",  # Bob's calm is neutral
        "--adapt_to=corpus",
        "--vote_share=0.5",
        "--refit=True",
    ]


@pytest.fixture(scope="module")
def run(root, whisper, tmp_path_factory):
    """Folder of a run on Ann, who is never bored, and Bob, adapted to each."""
    output = tmp_path_factory.mktemp("run") / "several"
    code, printed = train(
        MULTI, *several(root, whisper, output), before=enter_toys
    )
    assert code == 0, printed
    return output


def read(path):
    return json.loads(path.read_text())


def rows(run):
    with open(run / "predictions.csv", newline="") as file:
        return {row["utt_id"]: row for row in csv.DictReader(file)}


def log_probs(run):
    names = [f"log_prob_{emotion}" for emotion in EMOTIONS]
    return {
        utt_id: torch.tensor([float(row[name]) for name in names])
        for utt_id, row in rows(run).items()
    }


def chosen_epochs(run):
    """Best epoch of the run that chose, from 0; of equals the last."""
    lines = (run / "selection/train_log.txt").read_text().splitlines()
    reached = [float(line.split("valid UA: ")[1]) for line in lines]
    return max(range(len(reached)), key=lambda i: (reached[i], i))


def test_corpora_count_alike_in_the_scores(run):
    metrics = read(run / "metrics.json")
    ann, bob = (metrics["by_corpus"][name] for name in ("Ann", "Bob"))
    for name in ("weighted_accuracy", "unweighted_accuracy"):
        mean = (ann[name] + bob[name]) / 2
        assert metrics[name] == pytest.approx(mean, abs=1e-6)
    counts = [x["num_utterances"] for x in (ann, bob, metrics)]
    assert counts == [4, 6, 10]  # of two speakers each
    assert metrics["labels"] == EMOTIONS
    card = (run / "model/README.md").read_text()
    assert "\ndatasets:\n- Ann\n- Bob\n" in card


def test_no_corpus_is_given_a_label_that_it_lacks(run):
    for utt_id, row in log_probs(run).items():
        assert (row[2] == -math.inf) == utt_id.startswith("Ann/")
        assert row.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_the_model_folder_predicts_as_the_recipe_did(run, root):
    """Clips of a corpus are a conversation, whose labels the user knows."""
    expected, test = log_probs(run), read(run / "test.json")
    wavs = [
        test[utt_id]["wav"].replace("{data_root}", str(root))
        for utt_id in expected
    ]
    corpora = [test[utt_id]["corpus"] for utt_id in expected]
    classifier = EncoderClassifier.from_hparams(run / "model")
    results = classifier.classify_conversation(wavs, corpora)
    found = torch.cat([result[0] for result in results])
    expected = torch.stack(list(expected.values()))
    found = found.masked_fill(expected.isinf(), -math.inf).log_softmax(dim=-1)
    assert torch.allclose(found, expected, atol=1e-3)


def test_the_run_that_chooses_tests_nothing(run):
    selection = run / "selection"
    assert not (selection / "metrics.json").exists()
    assert not (selection / "model").exists()
    assert "test" not in (selection / "train_log.txt").read_text()
    for split in SPLITS:
        name = f"{split}.json"
        assert read(selection / name) == read(run / name)


def test_all_but_the_test_is_trained_on_for_the_chosen_epochs(run):
    train_, valid, test = (read(run / f"{split}.json") for split in SPLITS)
    both = read(run / "save/train_valid.json")
    assert both == {**train_, **valid}
    assert not set(both) & set(test)
    *epochs, tested = (run / "train_log.txt").read_text().splitlines()
    assert len(epochs) == 1 + chosen_epochs(run)
    assert tested.startswith(f"best epoch: {chosen_epochs(run)} ")


def test_a_run_that_was_killed_after_choosing_ends_as_if_it_had_not_been(
    run, root, whisper, tmp_path
):
    shutil.copytree(run / "selection", tmp_path / "selection")
    arguments = several(root, whisper, tmp_path)
    arguments.append("--ckpt_interval_steps=1")
    kill = partial(enter_toys, then=partial(die, 1, 2))
    code, _ = train(MULTI, *arguments, before=kill)
    assert code < 0 and list(tmp_path.glob("save/CKPT*"))
    code, printed = train(MULTI, *arguments, before=enter_toys)
    assert code == 0, printed
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / name).read_text() == (run / name).read_text()


def test_no_epoch_leaves_the_probe_that_training_starts_from(
    run, root, whisper, tmp_path
):
    arguments = several(root, whisper, tmp_path)
    place = arguments.index("--number_of_epochs=3")
    arguments[place] = "--number_of_epochs=0"
    code, printed = train(MULTI, *arguments, before=enter_toys)
    assert code == 0, printed
    log = (tmp_path / "train_log.txt").read_text().splitlines()
    assert log[0].startswith("epoch: 0 - valid loss: ")
    assert log[1].startswith("best epoch: 0 - test loss: ")
    weights = load_file(tmp_path / "model/model.safetensors")
    weight = weights["classifier.linear.weight"]
    # Of the pooled fusion; block statistics are the rest.
    assert (weight[:, : 2 * 96] == 0).all() and weight[:, 2 * 96 :].all()


def test_a_fold_of_emobox(whisper, tmp_path):
    """Of a corpus that has no entry, no speakers and no validation part."""
    gains = {"joy": 1.0, "tired": 0.1}
    fold = tmp_path / "EmoBox/data/toy/fold_1"
    fold.mkdir(parents=True)
    for part, number in (("train", 10), ("test", 3)):
        lines = []
        for label, gain in gains.items():
            for i in range(number):
                wav = f"toy/{part}/{label}{i}.wav"
                write_clip(tmp_path / "audio" / wav, gain, seed=i)
                lines.append({"key": f"toy-{wav}", "wav": wav, "emo": label})
        text = "\n".join(map(json.dumps, lines))
        (fold / f"toy_{part}_fold_1.jsonl").write_text(text)
    output = tmp_path / "run"
    code, printed = train(
        MULTI,
        *options(tmp_path, whisper, output, "emobox"),
        "--corpus=toy",
        f"--emobox_folder={tmp_path / 'EmoBox'}",
        f"--data_folder={tmp_path / 'audio'}",
    )
    assert code == 0, printed
    metrics = read(output / "metrics.json")
    assert metrics["labels"] == ["happy", "tired"]
    assert (metrics["corpus"], metrics["fold"]) == ("toy", 1)
    assert metrics["num_utterances"] == 6
    assert "by_corpus" not in metrics
    sizes = [len(read(output / f"{split}.json")) for split in SPLITS]
    assert sizes == [16, 4, 6]
    assert len(rows(output)) == 6
    examine(output, tmp_path / "audio", metrics)


def examine(run, audio, metrics):
    """The script that examines a run's model, on all of its test clips."""
    arguments = run, f"--data_root={audio}", "--clips=9"
    code, printed = train(MULTI, *arguments, script="examine.py")
    assert code == 0, printed
    found = read(run / "examine.json")
    for part in ("corpora", "sexes", "lengths"):
        (scores,) = found[part].values()
        assert scores["weighted_accuracy"] == metrics["weighted_accuracy"]
        assert scores["ece"] == pytest.approx(metrics["ece"], abs=1e-6)
    assert list(found["lengths"]) == ["1.5 to 2.5 s"]
    recorded, *changed = (x["toy"] for x in found["conditions"].values())
    assert recorded == {**found["corpora"]["toy"], "ece": recorded["ece"]}
    assert all(x["num_utterances"] == 6 for x in changed)

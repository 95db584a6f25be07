"""The scripts that make the tables, run as a user runs them."""

import importlib.util
import json

import numpy as np
import pytest
from runs import IEMOCAP, SYNTHETIC, demo, train
from standin import TRAIN, YAML

from qieemo_sb.audio import read_audio
from qieemo_sb.evaluation.probes import read_fold

pytestmark = pytest.mark.slow

SMALL = [
    "--encoder={dims: {d_model: 16, n_blocks: 2, n_heads: 2, ffn_dim: 16}}",
    "--emotional_blocks=[1]",
    "--speed_perturbation=False",
]


def load(script):
    """A script of the recipe as a module."""
    spec = importlib.util.spec_from_file_location(
        script, IEMOCAP / f"{script}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path):
    return json.loads(path.read_text())


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe whose train.py takes no time."""
    (tmp_path / "recipe.yaml").write_text(YAML)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "grid.yaml").write_text(
        "hparams: recipe.yaml\naxes: {size: {whole: {}, half: {width: 48}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_fold_of_the_demo(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(SYNTHETIC)
    arguments = demo(corpus, tmp_path / "cv", epochs=1)
    code = load("cross_validate").main([*arguments, *SMALL, "--folds=2"])
    result = read(tmp_path / "cv/cv.json")
    assert (code, result["failed"]) == (0, [])
    assert result["title"] == "synthetic, demo.yaml"
    assert str(tmp_path) not in json.dumps(result)
    (metrics,) = result["runs"]
    folder = tmp_path / "cv/fold_2/1986"
    tested = read(folder / "test.json").values()
    assert {entry["session"] for entry in tested} == {metrics["fold"]} == {2}
    assert metrics.pop("minutes") > 0
    assert metrics == read(folder / "metrics.json")
    assert (folder / "model/model.safetensors").exists()
    pooled = result["summary"]["pooled"]
    assert pooled["confusion_matrix"] == metrics["confusion_matrix"]


CHEAP = ["recipe.yaml", "--script=train.py", "--data_folder", "data"]


def test_a_failure_is_the_exit_status(recipe, capsys):
    main = load("cross_validate").main
    (recipe / "broken").touch()
    assert main([*CHEAP, "--folds", "2,3", "--seeds=1"]) == 1
    printed = capsys.readouterr().out
    assert "[1/2] fold 2, seed 1: FAILED" in printed
    assert "this went wrong" in printed
    (recipe / "broken").unlink()
    assert main([*CHEAP, "--folds", "2,3", "--seeds=1"]) == 0
    assert "[1/2] fold 3, seed 1: WA 0.500, UA 0.500 (was finished)" in (
        capsys.readouterr().out
    )
    assert read(recipe / "results/x/cv/cv.json")["failed"] == []


def test_what_cannot_be_run_is_said_without_a_traceback(recipe):
    script = IEMOCAP / "cross_validate.py"
    code, printed = train(recipe, *CHEAP, "--folds=9", script=script)
    assert code == 1
    assert printed.strip() == (
        "There is no fold 9: there are [1, 2, 3, 4, 5, 6]."
    )
    assert not (recipe / "results").exists()


def test_an_ablation(recipe, capsys, monkeypatch):
    ablate = load("ablate")
    monkeypatch.setattr(ablate, "TRAIN", recipe / "train.py")
    options = ["--data_folder=data", "--folds=1,2", "--seeds=1,2"]
    assert ablate.main(["grid.yaml", *options]) == 0
    result = read(recipe / "results/x/ablation/ablation.json")
    assert [row["name"] for row in result["rows"]] == ["default", "size: half"]
    # A linear layer from two to three: 6 weights, 3 biases.
    assert result["rows"][0]["parameters"] == {"trained": 9, "total": 9}
    assert "| size: half |" in capsys.readouterr().out
    (recipe / "broken").touch()
    folder = f"--output_folder={recipe / 'other'}"
    assert ablate.main(["grid.yaml", *options, folder]) == 1


def test_probes_of_the_demo_and_what_is_kept_of_them(corpus, tmp_path):
    load("probe_blocks").main(
        [
            str(SYNTHETIC / "hparams/demo.yaml"),
            f"--data_folder={corpus}",
            f"--output_folder={tmp_path}",
            "--make_corpus=null",
            "--folds=1,5",
            "--speaker_normalise",
            *SMALL,
        ]
    )
    result = read(tmp_path / "probe.json")
    assert len(result["tables"]) == 2
    for table in result["tables"].values():
        assert list(table) == ["0", "1", "2", "all blocks"]
        assert list(table["1"]["macro_f1"]["by_fold"]) == ["1", "5"]
    parts = ("train", "valid", "test")
    told = [set(read(tmp_path / f"fold_1/{part}.json")) for part in parts]
    kept = list(tmp_path.glob("cache/*-pooled/*.npy"))
    assert len(kept) == len(set.union(*told))


def test_what_chooses_nothing_trains_on_all_that_is_not_tested(
    corpus, tmp_path
):
    train_, test = read_fold(
        SYNTHETIC / "hparams/demo.yaml",
        data_folder=str(corpus),
        make_corpus=None,
        fold=3,
        output_folder=str(tmp_path),
    )
    assert {u.session for u in train_} == {1, 2, 4, 5}
    assert {u.session for u in test} == {3}


def test_what_chooses_nothing_divides_ones_own_corpus(corpus, table, tmp_path):
    train_, test = read_fold(
        IEMOCAP / "hparams/manifest.yaml",
        "emotions: [calm, upset, glad]",
        data_folder=str(corpus),
        csv_file=str(table),
        fold=1,
        output_folder=str(tmp_path),
    )
    assert len(train_) + len(test) == sum(1 for _ in open(table)) - 1
    assert not {u.spk_id for u in train_} & {u.spk_id for u in test}


def test_functionals_have_the_command_line_and_metrics_of_train_py(
    corpus, tmp_path, monkeypatch
):
    script = load("functionals")

    def loudness(wavs, folder):
        return {
            name: np.array([read_audio(wav).std()])
            for name, wav in wavs.items()
        }

    monkeypatch.setattr(script, "functionals", loudness)
    arguments = demo(corpus, tmp_path)[1:]
    demo_yaml = SYNTHETIC / "hparams/demo.yaml"
    script.main([str(demo_yaml), *arguments, "--fold=2", "--seed=7"])
    metrics = read(tmp_path / "metrics.json")
    assert (metrics["fold"], metrics["seed"]) == (2, 7)
    assert metrics["num_utterances"] == len(read(tmp_path / "test.json"))
    assert metrics["weighted_accuracy"] > 0.3  # raised and lowered voices

"""Stage 1 learns to read, and stage 2 takes what it has learned."""

import json
import re

import pytest
import soundfile
from runs import IEMOCAP, RAVDESS, SYNTHETIC, train

from qieemo_sb import EncoderClassifier
from qieemo_sb.corpora.manifest import Utterance, write_manifest
from qieemo_sb.errors import ModelFolderError
from qieemo_sb.training.hparams import plain_options

MODEL = r"results/ppg/\S+/model"
TEXTS = {"train": "abcdef", "valid": "gh", "test": "ij"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, corpus):
    """A folder of manifests over the synthetic corpus's audio."""
    folder = tmp_path_factory.mktemp("pairs")
    wavs = iter(sorted(corpus.glob("Session1/sentences/wav/*/Ses*.wav")))
    for split, names in TEXTS.items():
        utterances = []
        for name in names:
            wav = next(wavs)
            (folder / wav.name).write_bytes(wav.read_bytes())
            length = soundfile.info(wav).duration
            utterances.append(
                Utterance(name, wav.name, length, "", f"{name} [COUGH]")
            )
        write_manifest(utterances, folder / f"{split}.json")
    return folder


def arguments(pairs, whisper, output, **options):
    options = {
        "corpus": "manifests",
        "data_folder": pairs,
        "whisper_source": whisper,
        "output_folder": output,
        "cache_folder": output.parent / "cache",
        "number_of_epochs": 1,
        **options,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    return ["hparams/ppg.yaml", *given]


@pytest.fixture(scope="module")
def run(pairs, whisper, tmp_path_factory):
    """A finished run of stage 1."""
    output = tmp_path_factory.mktemp("ppg") / "run"
    options = {"keep_events": True}
    code, printed = train(
        IEMOCAP,
        *arguments(pairs, whisper, output, **options),
        script="train_ppg.py",
    )
    assert code == 0, printed
    return output


def test_metrics_and_readings_are_left(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["num_utterances"] == 2
    assert metrics["tokens"] == "30 characters"
    assert metrics["character_error_rate"] >= 0
    assert "i, %WER" in (run / "readings.txt").read_text()


def test_the_bundle_reads(run, pairs):
    reader = EncoderClassifier.from_hparams(run / "model")
    wav = next(pairs.glob("*.wav"))
    assert isinstance(reader.transcribe_file(wav), str)
    assert reader.tokens.names[-1] == "#"
    with pytest.raises(ModelFolderError, match="knows no emotion"):
        reader.classify_file(wav)


def test_stage_two_takes_the_head_and_keeps_it(
    run, corpus, table, whisper, tmp_path
):
    output = tmp_path / "two"
    code, printed = train(
        IEMOCAP,
        "hparams/manifest.yaml",
        f"--data_folder={corpus}",
        f"--csv_file={table}",
        f"--whisper_source={whisper}",
        f"--ppg_source={run / 'model'}",
        f"--output_folder={output}",
        f"--cache_folder={tmp_path / 'cache'}",
        "--emotions=[calm, upset, glad]",
        "--n_classes=3",
        "--emotional_blocks=[1]",
        "--number_of_epochs=1",
        "--num_workers=0",
    )
    assert code == 0, printed
    before, after = (
        EncoderClassifier.from_hparams(folder / "model")
        for folder in (run, output)
    )
    assert after.tokens == before.tokens
    kept = after.mods.qieemo.ppg_head.state_dict()
    for name, value in before.mods.qieemo.ppg_head.state_dict().items():
        assert (kept[name] == value).all()


def test_a_head_of_another_encoder_is_refused_before_anything(run, tmp_path):
    code, printed = train(
        SYNTHETIC, "hparams/demo.yaml", f"--ppg_source={run / 'model'}"
    )
    assert code != 0
    assert "was trained on another encoder" in printed
    assert "Traceback" not in printed


def test_what_cannot_be_aligned_is_told_or_left_out(pairs, whisper, tmp_path):
    for split in TEXTS:
        manifest = json.loads((pairs / f"{split}.json").read_text())
        if split == "train":
            manifest["a"]["wrd"] = "a" * 5_000
            manifest["b"]["wrd"] = "[BREATHING]"
        text = json.dumps(manifest).replace("{data_root}", str(pairs))
        (tmp_path / f"{split}.json").write_text(text)
    options = arguments(tmp_path, whisper, tmp_path / "run")
    code, printed = train(IEMOCAP, *options, script="train_ppg.py")
    assert code != 0 and "Traceback" not in printed
    assert "2 transcripts that CTC cannot align" in printed
    assert "train, a: 9999 frames for the text" in printed
    assert "train, b: '[BREATHING]' has no token" in printed
    code, printed = train(
        IEMOCAP,
        *options,
        "--leave_out_unalignable=True",
        script="train_ppg.py",
    )
    assert code == 0, printed
    assert "are left out" in printed


@pytest.mark.parametrize(
    "text, recipe, yaml",
    [
        (IEMOCAP / "train_ppg.py", IEMOCAP, "ppg"),
        (IEMOCAP / "README.md", IEMOCAP, "ppg"),
        (RAVDESS / "README.md", SYNTHETIC, "ppg_ravdess"),
        (SYNTHETIC / "README.md", SYNTHETIC, "ppg"),
    ],
)
def test_model_is_where_the_next_command_seeks_it(text, recipe, yaml):
    output = plain_options(recipe / f"hparams/{yaml}.yaml")["output_folder"]
    found = re.findall(MODEL, text.read_text(encoding="utf-8"))
    assert found and set(found) == {f"{output}/model"}

"""Stage 1 trains a PPG head, which stage 2 takes."""

import json
import re

import pytest
import soundfile
from runs import IEMOCAP, RAVDESS, SYNTHETIC, train

from qieemo_sb import EncoderClassifier
from qieemo_sb.corpora.manifest import Utterance, write_manifest
from qieemo_sb.errors import ModelFolderError
from qieemo_sb.training.hparams import plain_options

pytestmark = pytest.mark.slow

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


def test_the_model_folder_transcribes(run, pairs):
    reader = EncoderClassifier.from_hparams(run / "model")
    wav = next(pairs.glob("*.wav"))
    assert isinstance(reader.transcribe_file(wav), str)
    assert reader.tokens.names[-1] == "#"
    with pytest.raises(ModelFolderError, match="knows no emotion"):
        reader.classify_file(wav)


def test_stage_two_takes_the_head_and_the_encoder(run, corpus, table, tmp_path):
    code, printed = train(
        IEMOCAP,
        "hparams/manifest.yaml",
        f"--data_folder={corpus}",
        f"--csv_file={table}",
        f"--encoder_source={run / 'model'}",
        f"--ppg_source={run / 'model'}",
        f"--output_folder={tmp_path / 'two'}",
        f"--cache_folder={tmp_path / 'cache'}",
        "--emotions=[calm, upset, glad]",
        "--emotional_blocks=[1]",
        "--number_of_epochs=1",
    )
    assert code == 0, printed
    before, after = (
        EncoderClassifier.from_hparams(folder / "model")
        for folder in (run, tmp_path / "two")
    )
    assert after.tokens == before.tokens
    for part in ("encoder", "ppg_head"):
        kept = getattr(after.mods.qieemo, part).state_dict()
        trained = getattr(before.mods.qieemo, part).state_dict()
        assert all((kept[name] == trained[name]).all() for name in trained)


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


def test_the_model_is_where_the_next_command_looks_for_it():
    options = plain_options(IEMOCAP / "hparams/ppg.yaml")
    text = (IEMOCAP / "train_ppg.py").read_text(encoding="utf-8")
    places = re.findall(MODEL, text)
    assert places == [f"{options['output_folder']}/model"]
    options = plain_options(SYNTHETIC / "hparams/ppg.yaml")
    text = (RAVDESS / "README.md").read_text(encoding="utf-8")
    places = re.findall(MODEL, text)
    assert set(places) == {f"{options['output_folder']}/model"}

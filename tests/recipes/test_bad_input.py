"""The error, before the first epoch, for data that cannot be used."""

import json
import os
import shutil

import pytest
from runs import IEMOCAP, RAVDESS, TUNED, small, train

from qieemo_sb.corpora.iemocap import prepare_iemocap

pytestmark = pytest.mark.slow


def refused(recipe, *arguments, **script):
    """Run train.py, which must stop by itself → all that it printed."""
    code, printed = train(recipe, *arguments, **script)
    assert code == 1, printed
    assert "Going into epoch" not in printed
    assert "Traceback" not in printed
    return printed


def test_without_a_corpus_it_says_where_to_get_it(tmp_path):
    # No Whisper is given: it says so before it would download one.
    options = ("hparams/qieemo.yaml", f"--output_folder={tmp_path}")
    printed = refused(IEMOCAP, *options)
    assert "https://sail.usc.edu/iemocap/" in printed
    assert "RAVDESS is needed" in refused(RAVDESS, *options)
    assert "'data_folder'" in refused(IEMOCAP, "hparams/manifest.yaml")


def test_all_bad_files_are_listed_at_once(corpus, whisper, tmp_path):
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy, copy_function=os.link)
    bad = sorted(copy.glob("Session1/sentences/wav/*/Ses*.wav"))[:3]
    for wav in bad:
        wav.unlink()  # not written to: the copy shares its files
    bad[0].write_bytes(b"")
    bad[1].write_bytes(b"RIFF is not enough")
    printed = refused(IEMOCAP, *small(copy, whisper, tmp_path / "run"))
    assert all(wav.name in printed for wav in bad)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--fodl=2"], "there is no option fodl; is fold meant?"),
        (["--device=abacus"], "The device abacus cannot be used here"),
        (["--seed=2", "--seed=3"], 'Given twice: found duplicate key "seed"'),
        (
            ["--emotions=[neu, hap, ang, x]"],
            "test: 'sad', e.g. Ses05F",
        ),
        (["--emotions=[a, b, c]"], "emotions has 3 names, n_classes is 4"),
        (["--mixer={blocks: [99]}"], "(emotional_blocks): there is no block"),
        (["--ctc_weight=1.0"], "a crop loses words: set crop_seconds to null"),
        (["--adapt_to=voice"], "adapt_to is voice; it can be null, speaker"),
        (["--vote_share=0.5"], "no utterance that is trained on has votes"),
        (["--jit"], "TorchScript cannot compile Qieemo; use --compile"),
    ],
)
def test_options_that_cannot_be(corpus, whisper, tmp_path, options, message):
    printed = refused(IEMOCAP, *small(corpus, whisper, tmp_path, *options))
    assert message in printed
    if options == ["--jit"]:
        assert not (tmp_path / "train.json").exists()


def test_numbers_that_cannot_be(corpus, whisper, tmp_path):
    options = small(corpus, whisper, tmp_path, epochs=0)
    assert "number_of_epochs is 0" in refused(IEMOCAP, *options)
    options[options.index("--fold=5")] = "--fold=6"
    options.remove("--number_of_epochs=0")
    printed = refused(IEMOCAP, *options)
    assert "fold" in printed and "5" in printed


def test_a_yaml_that_is_not_there():
    for script in ("train.py", "train_ppg.py"):
        printed = refused(IEMOCAP, "hparams/gone.yaml", script=script)
        assert "hparams/gone.yaml cannot be read" in printed


def test_checkpoints_of_another_fold_are_left_as_they_were(
    corpus, whisper, tmp_path
):
    options = small(corpus, whisper, tmp_path)
    refused(IEMOCAP, *options, "--jit_module_keys=qieemo")
    before = [*options, "--emotions=[a]"]
    refused(IEMOCAP, *before)  # refused, but for its options, which are kept
    (tmp_path / "save/CKPT+1").mkdir()
    record = (tmp_path / "hyperparams.yaml").read_text()
    options[options.index("--fold=5")] = "--fold=4"
    printed = refused(IEMOCAP, *options, "--emotions=[a]")
    assert "fold: 5 before, now 4" in printed
    assert "another output_folder" in printed
    assert (tmp_path / "hyperparams.yaml").read_text() == record


@pytest.mark.parametrize(
    "split, field, option, message",
    [
        ("test", "spk_id", "--adapt_to=speaker", "test: {} has no speaker"),
        ("train", "wrd", "--ctc_weight=1.0", "train, {}: no transcript"),
    ],
)
def test_manifests_that_lack_something(
    corpus, whisper, tmp_path, split, field, option, message
):
    counts = corpus / "expected_counts.json"
    prepare_iemocap(corpus, tmp_path, fold=5, expected_counts=counts)
    manifest = tmp_path / f"{split}.json"
    entries = json.loads(manifest.read_text())
    first = min(entries)
    entries[first][field] = ""
    manifest.write_text(json.dumps(entries))
    tuned = [o for o in TUNED if "ctc" not in o]
    options = small(corpus, whisper, tmp_path, *tuned, "--skip_prep=True")
    printed = refused(IEMOCAP, *options, option)
    assert message.format(first) in printed
    manifest.unlink()
    printed = refused(IEMOCAP, *options)
    assert f"{manifest} cannot be read" in printed

"""What train.py says, before the first epoch, to data that it cannot use."""

import json
import os
import shutil

import pytest
from runs import IEMOCAP, ROOT, SYNTHETIC, demo, train

from qieemo_sb.corpora.iemocap import prepare_iemocap


def refused(recipe, *arguments, **script):
    """Run train.py, which must stop by itself → what it printed."""
    code, printed = train(recipe, *arguments, **script)
    assert code == 1
    assert "Going into epoch" not in printed
    assert "Traceback" not in printed
    return printed


@pytest.fixture
def copied(corpus, tmp_path):
    """A copy of the corpus that a test may spoil."""
    return shutil.copytree(corpus, tmp_path / "corpus", copy_function=os.link)


def test_without_iemocap_it_says_where_to_get_it_and_what_runs_without(
    tmp_path,
):
    # No Whisper is given: it says so before it would download one.
    printed = refused(
        IEMOCAP,
        "hparams/qieemo.yaml",
        f"--output_folder={tmp_path}",
    )
    assert "https://sail.usc.edu/iemocap/" in printed
    assert "python train.py hparams/demo.yaml" in printed


def test_without_ravdess_it_says_where_to_get_it(tmp_path):
    printed = refused(
        ROOT / "recipes/RAVDESS/qieemo",
        "hparams/qieemo.yaml",
        f"--output_folder={tmp_path}",
    )
    assert "RAVDESS is needed" in printed


def test_without_a_folder_of_ones_own_it_names_the_option():
    assert "'data_folder'" in refused(IEMOCAP, "hparams/manifest.yaml")


def test_all_bad_files_are_listed_at_once(copied, tmp_path):
    wavs = sorted(copied.glob("Session1/sentences/wav/*/Ses*.wav"))
    labels = label_of_turns(copied)
    bad = [wav for wav in wavs if labels[wav.stem] in ("neu", "ang")][:3]
    for wav in bad:
        wav.unlink()  # not written to: the copy shares its files
    bad[0].write_bytes(b"")
    bad[1].write_bytes(b"RIFF is not enough")
    printed = refused(SYNTHETIC, *demo(copied, tmp_path / "run"))
    assert all(wav.name in printed for wav in bad)


def label_of_turns(corpus):
    """Turn → label, from the lines that begin with a time."""
    found = {}
    for path in corpus.glob("Session*/dialog/EmoEvaluation/Ses*.txt"):
        for line in path.read_text().splitlines():
            if line.startswith("["):
                _, turn, label, _ = line.split("\t")
                found[turn] = label
    return found


def test_a_fold_that_does_not_exist(corpus, tmp_path):
    printed = refused(SYNTHETIC, *demo(corpus, tmp_path), "--fold=6")
    assert "fold" in printed
    assert "5" in printed


def test_a_label_that_the_yaml_does_not_list(corpus, tmp_path):
    printed = refused(
        SYNTHETIC, *demo(corpus, tmp_path), "--emotions=[neu, hap, ang]"
    )
    assert "'sad'" in printed


def test_names_that_are_not_as_many_as_outputs(corpus, tmp_path):
    printed = refused(
        SYNTHETIC, *demo(corpus, tmp_path), "--emotions=[neu, hap, ang, sad, x]"
    )
    assert "emotions has 5 names, n_classes is 4" in printed


def test_checkpoints_of_another_fold(corpus, tmp_path):
    command = [*demo(corpus, tmp_path), "--fold=6"]
    refused(SYNTHETIC, *command)  # there is none; its options are kept
    (tmp_path / "save/CKPT+1").mkdir()
    printed = refused(SYNTHETIC, *demo(corpus, tmp_path))
    assert "fold: 6 before, now 5" in printed
    assert "another output_folder" in printed


@pytest.mark.parametrize(
    "options, message",
    [
        (["--fodl=2"], "fodl"),
        (["--fold=2", "--fold=3"], 'Given twice: found duplicate key "fold"'),
        (["--number_of_epochs=0"], "number_of_epochs is 0"),
    ],
)
def test_options_that_cannot_be(corpus, tmp_path, options, message):
    printed = refused(
        SYNTHETIC, *demo(corpus, tmp_path, epochs=3)[:3], *options
    )
    assert message in printed.splitlines()[-1]


def test_a_yaml_that_is_not_there():
    for script in ("train.py", "train_ppg.py"):
        printed = refused(IEMOCAP, "hparams/gone.yaml", script=script)
        assert "hparams/gone.yaml cannot be read" in printed


def test_a_refusal_leaves_the_record_of_a_run_as_it_was(corpus, tmp_path):
    test_checkpoints_of_another_fold(corpus, tmp_path)
    before = (tmp_path / "hyperparams.yaml").read_text()
    refused(SYNTHETIC, *demo(corpus, tmp_path), "--seed=3")
    assert (tmp_path / "hyperparams.yaml").read_text() == before


def test_a_block_that_the_encoder_does_not_have(corpus, tmp_path):
    printed = refused(
        SYNTHETIC, *demo(corpus, tmp_path), "--emotional_blocks=[99]"
    )
    assert "no block [99]" in printed


def spoiled(corpus, folder, split, field):
    """Prepare the corpus, but for a field of a split's first utterance."""
    prepare_iemocap(
        corpus, folder, expected_counts=corpus / "expected_counts.json"
    )
    manifest = folder / f"{split}.json"
    entries = json.loads(manifest.read_text())
    first = min(entries)
    entries[first][field] = ""
    manifest.write_text(json.dumps(entries))
    return first, [*demo(corpus, folder), "--skip_prep=True"]


def test_nobody_to_adapt_to(corpus, tmp_path):
    first, arguments = spoiled(corpus, tmp_path, "test", "spk_id")
    printed = refused(SYNTHETIC, *arguments, "--adapt_speakers=True")
    assert f"test: {first} has no speaker" in printed


def test_a_missing_transcript_where_ctc_is_on(corpus, tmp_path):
    first, arguments = spoiled(corpus, tmp_path, "train", "wrd")
    printed = refused(SYNTHETIC, *arguments)
    assert f"{first}: no transcript" in printed


def test_skip_prep_without_manifests(corpus, tmp_path):
    printed = refused(SYNTHETIC, *demo(corpus, tmp_path), "--skip_prep=True")
    assert f"{tmp_path / 'train.json'} cannot be read" in printed

"""Data sets, their checks, and batches of like length."""

import numpy as np
import pytest
import torch
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.dataset import DynamicItemDataset, set_output_keys

from qieemo_sb.corpora.manifest import (
    SPLITS,
    Utterance,
    read_manifest,
    write_manifest,
)
from qieemo_sb.errors import CorpusError, QieemoError
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.training import data

SETTINGS = {
    "max_batch_length": 20,
    "max_batch_ex": 6,
    "num_buckets": 4,
    "shuffle": True,
    "batch_ordering": "random",
}


@pytest.fixture
def dataset():
    lengths = [(7 * i) % 12 + 0.5 for i in range(60)]
    return DynamicItemDataset(
        {f"{i:02}": {"length": length} for i, length in enumerate(lengths)}
    )


def batches(dataset, name, seed=0):
    """Lengths of the utterances in each batch."""
    options = data.loader_options({name: dataset}, SETTINGS, seed, 2)
    return [
        [dataset.data[dataset.data_ids[i]]["length"] for i in batch]
        for batch in options[name]["batch_sampler"]
    ]


@pytest.mark.parametrize("name", ["train", "test"])
def test_each_utterance_once_in_small_batches_of_like_length(dataset, name):
    found = batches(dataset, name)
    assert sorted(sum(found, [])) == sorted(
        entry["length"] for entry in dataset.data.values()
    )
    for batch in found:
        assert len(batch) <= 6
        assert len(batch) * max(batch) <= 20 or len(batch) == 1
        assert max(batch) - min(batch) < 7


def test_only_training_is_random_and_read_by_workers(dataset):
    assert batches(dataset, "test", 1) == batches(dataset, "test", 2)
    assert batches(dataset, "train", 1) != batches(dataset, "train", 2)
    datasets = {"train": dataset, "test": dataset}
    options = data.loader_options(datasets, SETTINGS, seed=1, num_workers=2)
    assert [o["num_workers"] for o in options.values()] == [2, 0]


def test_cached_frames_are_padded_or_left_to_be_cropped(tmp_path):
    """A batch to crop holds memory maps, of which nothing is read."""
    for name, frames in (("a", 3), ("b", 5)):
        values = np.full((frames, 2, 4), frames, dtype="float16")
        np.save(tmp_path / f"{name}.npy", values)

    class Cache:
        def load(self, wav):
            return torch.from_numpy(np.load(wav, mmap_mode="c"))

    entries = {
        name: {"wav": tmp_path / f"{name}.npy", "length": 1.0} for name in "ab"
    }
    dataset = DynamicItemDataset(entries)
    datasets = {"train": dataset, "test": dataset}
    assert data.add_speech(datasets, Cache()) == "frames"
    set_output_keys([dataset], ["id", "frames"])
    options = data.loader_options(
        datasets, SETTINGS, seed=1, num_workers=2, cached=True, crop=2.0
    )
    found = {
        name: next(iter(make_dataloader(dataset, **o)))
        for name, o in options.items()
    }
    assert sorted(map(len, found["train"].frames)) == [3, 5]
    assert found["test"].frames.data.shape == (2, 5, 2, 4)
    assert sorted(found["test"].frames.lengths.tolist()) == pytest.approx(
        [0.6, 1.0]
    )


def test_train_and_valid_as_one_manifest(tmp_path):
    manifests = {name: tmp_path / f"{name}.json" for name in SPLITS}
    for name, path in manifests.items():
        write_manifest([Utterance(name, f"{name}.wav", 1.0, "sad")], path)
    found = data.with_valid_in_train(manifests, tmp_path)
    assert {**found, "train": manifests["train"]} == manifests
    both = read_manifest(found["train"])
    assert [u.utt_id for u in both] == ["train", "valid"]
    manifests["valid"] = manifests["train"]
    with pytest.raises(CorpusError, match="1 utterance ids occur twice"):
        data.with_valid_in_train(manifests, tmp_path)


def labelled(**emotions):
    return {"train": DynamicItemDataset(emotions)}


def test_labels_that_are_not_emotions():
    datasets = labelled(a={"emo": "glad"}, b={"emo": "sad"}, c={"emo": "sad"})
    data.check_labels(datasets, ["sad", "glad"], 2)
    with pytest.raises(CorpusError, match="train: 'sad', e.g. c"):
        data.check_labels(datasets, ["glad", "calm"], 2)
    with pytest.raises(QieemoError, match="emotions: .* control characters"):
        data.check_labels(datasets, ["sad", "glad\x1b[2J"], 2)


def test_speakers_that_are_unknown():
    known = labelled(a={"spk_id": "ann"})
    unknown = labelled(a={"spk_id": "ann"}, b={"spk_id": ""}, c={})
    assert data.check_speakers(known, adapt=True)
    assert not data.check_speakers(unknown, adapt=False)
    with pytest.raises(CorpusError, match="2 utterances.*\n.*train: b has no"):
        data.check_speakers(unknown, adapt=True)


def test_transcripts_that_ctc_cannot_align(caplog):
    datasets = labelled(
        a={"wrd": "yes", "length": 1.0},
        b={"wrd": "yes", "length": 0.03},
        c={"length": 1.0},
    )
    with pytest.raises(CorpusError, match="2 transcripts.*or wait") as error:
        data.alignable(datasets, Characters(), "wait")
    assert "train, b: 3 frames for the text, 2 are there" in str(error.value)
    assert "train, c: no transcript" in str(error.value)
    kept = data.alignable(datasets, Characters(), "wait", leave_out=True)
    assert kept["train"].data_ids == ["a"]
    assert "left out" in caplog.text

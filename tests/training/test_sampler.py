"""Batches of like length."""

import pytest
from speechbrain.dataio.dataset import DynamicItemDataset

from qieemo_sb.training.sampler import length_sampler, loader_options

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


def batches(dataset, **options):
    """Lengths of the utterances in each batch."""
    return [
        [dataset.data[dataset.data_ids[i]]["length"] for i in batch]
        for batch in length_sampler(dataset, SETTINGS, **options)
    ]


@pytest.mark.parametrize("training", [True, False])
def test_each_utterance_once_in_batches_that_are_small_enough(
    dataset, training
):
    found = batches(dataset, training=training)
    assert sorted(sum(found, [])) == sorted(
        entry["length"] for entry in dataset.data.values()
    )
    for batch in found:
        assert len(batch) <= 6
        assert len(batch) * max(batch) <= 20 or len(batch) == 1


def test_neighbours_are_alike(dataset):
    for batch in batches(dataset):
        assert max(batch) - min(batch) < 7


def test_tests_leave_nothing_to_chance(dataset):
    assert batches(dataset, seed=1) == batches(dataset, seed=2)
    assert batches(dataset, seed=1, training=True) != batches(
        dataset, seed=2, training=True
    )


def test_only_training_is_shuffled_and_read_by_others(dataset):
    datasets = {"train": dataset, "test": dataset}
    options = loader_options(datasets, SETTINGS, seed=1, num_workers=2)
    assert options["train"]["num_workers"] == 2
    assert options["test"]["num_workers"] == 0
    batches = [list(o["batch_sampler"]) for o in options.values()]
    assert batches[0] != batches[1]

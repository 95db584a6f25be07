"""A data set in batches of like length."""

from collections.abc import Mapping
from typing import Any

from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler

# No chance, and what needs most memory first: it fails at once or not at all.
TEST = {"shuffle": False, "batch_ordering": "descending"}


def length_sampler(
    dataset: DynamicItemDataset,
    settings: Mapping[str, Any],
    seed: int = 0,
    training: bool = False,
) -> DynamicBatchSampler:
    """SpeechBrain's sampler by total length, for training and for tests.

    Arguments
    ---------
    dataset : DynamicItemDataset
        Its entries have a ``length`` in seconds.
    settings : mapping
        Of the yaml's ``dynamic_batch_sampler``.
    seed : int
        Of the shuffling.
    training : bool
        Whether to shuffle as the settings say; else nothing is shuffled.

    Returns
    -------
    DynamicBatchSampler
    """
    return DynamicBatchSampler(
        dataset,
        length_func=lambda entry: float(entry["length"]),
        seed=seed,
        **{**settings, **({} if training else TEST)},
    )


def loader_options(
    datasets: Mapping[str, DynamicItemDataset],
    settings: Mapping[str, Any],
    seed: int,
    num_workers: int,
) -> dict[str, dict[str, Any]]:
    """What a Brain's data loaders are made with.

    Arguments
    ---------
    datasets : mapping
        "train" and others.
    settings, seed
        As in ``length_sampler``.
    num_workers : int
        Processes that read what is trained on.

    Returns
    -------
    dict
        Name of the data set → options.
    """
    return {
        name: {
            "batch_sampler": length_sampler(
                dataset, settings, seed, training=name == "train"
            ),
            "num_workers": num_workers if name == "train" else 0,
        }
        for name, dataset in datasets.items()
    }

"""Many machines: files and requests on a Ray cluster, with its own means."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qieemo_sb.errors import AudioError
from qieemo_sb.serving.models import load_any
from qieemo_sb.serving.predictor import FILES_AT_ONCE
from qieemo_sb.serving.results import Prediction

if TYPE_CHECKING:
    from qieemo_sb.serving.server.limits import Limits


class _Classify:
    """A model in a process of Ray's."""

    def __init__(self, model, device, threshold):
        self._predictor = load_any(model, device, threshold)

    def __call__(self, rows):
        results = self._predictor.predict(rows["item"].tolist())
        return {"result": [pickle.dumps(result) for result in results]}


def predict_with_ray(
    files: Sequence[str],
    model: str | Path,
    device: str = "cpu",
    threshold: float = 0.0,
) -> Iterator[Prediction | AudioError]:
    """Classify files on a Ray cluster, or on all cores of this machine.

    A cluster is used as Ray finds it: ``RAY_ADDRESS`` names it. Files and
    model are read by its machines, under the same paths.

    Arguments
    ---------
    files : sequence of str
    model, device, threshold
        As of ``load_any``; on cuda, each process has a GPU of its own.

    Yields
    ------
    Prediction or AudioError
        For each file, in order, as ``Predictor.predict``.
    """
    import ray

    blocks = -(-len(files) // FILES_AT_ONCE)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    results = ray.data.from_items(
        list(files), override_num_blocks=blocks
    ).map_batches(
        _Classify,
        fn_constructor_args=(model, device, threshold),
        batch_size=FILES_AT_ONCE,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=blocks),
        num_gpus=int(device.startswith("cuda")),
    )
    for row in results.iter_rows():
        yield pickle.loads(row["result"])


def ray_app(
    model: str | Path,
    device: str = "cpu",
    limits: Limits | None = None,
    token: str | None = None,
    **deployment: Any,
) -> Any:
    """The application of ``qieemo serve`` as one of Ray Serve.

    ::

        ray.serve.run(ray_app("open", num_replicas=4), blocking=True)

    Arguments
    ---------
    model, device
        As of ``load_any``; each replica loads it.
    limits, token
        As of ``create_app``; limits are those of a replica.
    **deployment
        Options of ``ray.serve.deployment``, such as num_replicas.

    Returns
    -------
    ray.serve.Application
    """
    from ray import serve

    def build():
        from qieemo_sb.serving.server.app import create_app

        return create_app(load_any(model, device), limits, token)

    deploy: Any = serve.deployment(**{"name": "emotions", **deployment})
    return deploy(serve.ingress(build)()).bind()

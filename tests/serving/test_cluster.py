"""Ray: what one process answers, from others."""

import json
import socket

import httpx2 as httpx
import pytest
import ray

from qieemo_sb.cli import main
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.cluster import ray_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A cluster of this machine's."""
    ray.init(num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


def test_files(source, write_wav, sound, tmp_path, capsys):
    files = [
        str(write_wav(sound(4_000 + 900 * i, i), name=f"{i}.wav"))
        for i in range(120)
    ]
    files.insert(7, str(tmp_path / "gone.wav"))
    answers = []
    for options in ([], ["--ray"]):
        command = ["predict", "--format", "json", "--model", str(source)]
        assert main([*command, *options, *files]) == 1
        out, err = capsys.readouterr()
        assert "gone.wav does not exist" in err and "1 of 121 files" in err
        answers.append(json.loads(out))
    for found, expected in zip(*answers, strict=True):
        scores = pytest.approx(expected.pop("scores"), abs=1e-5)
        assert found.pop("scores") == scores and found == expected


def test_requests(source, write_wav, sound):
    from ray import serve

    path = write_wav(sound(16_000))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"port": port})
    serve.run(ray_app(source, ray_actor_options={"num_cpus": 0.5}))
    with open(path, "rb") as file:
        found = httpx.post(
            f"http://127.0.0.1:{port}/v1/emotions", files={"file": file}
        ).json()
    serve.shutdown()
    (expected,) = load_model(source)(path)
    assert found["scores"] == pytest.approx(expected.scores, abs=1e-5)

"""A graph gives the model's results; an export is complete or not there."""

import json
import os

import numpy as np
import onnx
import pytest
import torch

from qieemo_sb.errors import ModelFolderError
from qieemo_sb.lobes.fusion import Projection
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.onnx.classifier import OnnxClassifier, load_graph
from qieemo_sb.serving.onnx.export import export_onnx, write_graph
from qieemo_sb.serving.onnx.window import ExportError

pytestmark = pytest.mark.slow

CLOSE = 1e-4
FILES = [
    "README.md",
    "export.json",
    "label_encoder.txt",
    "model.onnx",
    "model.onnx.data",
]


def assert_same(graph, model, signal, tolerance=CLOSE):
    """All outputs, but for the PPG where little is asked."""
    found = graph.analyse(signal.numpy())
    expected = model(signal[None])
    for name in ("log_probs", "embedding", "ppg"):
        value = getattr(expected, name)
        if value is None:
            assert getattr(found, name) is None
        elif name != "ppg" or tolerance == CLOSE:
            assert getattr(found, name).shape == value.shape
            difference = getattr(found, name) - value.numpy()
            assert np.abs(difference).max() < tolerance


# The graph


@torch.no_grad()
@pytest.mark.parametrize(
    "samples",
    [400, 480, 8_160, 52_345, 479_999, 480_000, 480_001, 480_159, 480_160]
    + [960_100, 1_000_001],
)
def test_any_length(exported, model, sound, samples):
    graph = OnnxClassifier.from_folder(exported)
    assert_same(graph, model, sound(samples))


@torch.no_grad()
@pytest.mark.parametrize(
    "names", [["ppg-alone"], ["cma-first", "statistics"], ["baseline"]]
)
def test_any_part_may_be_left_out(make_variant, stir, sound, names, tmp_path):
    model = stir(make_variant(*names))
    write_graph(model, tmp_path)
    graph = OnnxClassifier(load_graph(tmp_path / "model.onnx"), [])
    for samples in (400, 16_000, 500_000):
        assert_same(graph, model, sound(samples))


def test_float32_is_plain_onnx(exported):
    path = str(exported / "model.onnx")
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path, load_external_data=False).graph
    assert {node.domain for node in graph.node} == {""}
    assert not any(node.metadata_props for node in graph.node)


# int8


@torch.no_grad()
def test_int8_is_near_and_small(model, sound, exported, source, tmp_path):
    folder = export_onnx(source, tmp_path / "int8", int8=True)
    graph = OnnxClassifier.from_folder(folder)
    for samples in (400, 16_000, 500_000):
        assert_same(graph, model, sound(samples), tolerance=0.1)
    silence = graph.analyse(np.zeros(16_000, np.float32))
    assert all(np.isfinite(value).all() for value in silence)
    linear = {
        constant.name
        for constant in onnx.load(
            folder / "model.onnx", load_external_data=False
        ).graph.initializer
        if constant.data_type == onnx.TensorProto.INT8
        and len(constant.dims) > 1
    }
    # 3 blocks of 6, a convolution, the PPG's 4, MMF's 4, CMA's 8 + 2.
    assert len(linear) == 18 + 1 + 4 + 4 + 10
    weights = "model.onnx.data"
    sizes = [(f / weights).stat().st_size for f in (folder, exported)]
    assert sizes[0] < sizes[1]
    card = (folder / "README.md").read_text()
    assert card.startswith("# ONNX export, int8 weights\n")
    assert "in 8 bits it does not score" in card
    assert sorted(os.listdir(folder)) == FILES


# What cannot be exported


class ByLengths(Projection):
    """Uses lengths as a tensor."""

    def forward(self, ppg, emotional, lengths):
        fused = super().forward(ppg, emotional, lengths)
        return fused * (lengths > 0)[:, None, None]


class Frozen(Projection):
    """Depends on the length where the exporter does not see it."""

    def forward(self, ppg, emotional, lengths):
        fused = super().forward(ppg, emotional, lengths)
        if torch.compiler.is_exporting():
            return fused
        return fused / lengths.tolist()[0]


@pytest.mark.parametrize("fusion", [ByLengths, Frozen])
def test_what_cannot_be_exported_says_so(make_variant, tmp_path, fusion):
    model = make_variant("baseline", mmf=fusion(16, 12))
    with pytest.raises(ExportError, match=f"{fusion.__name__}.*exported"):
        write_graph(model, tmp_path)


def test_model_that_transcribes(make_encoder, tmp_path):
    from qieemo_sb.model import PPGModel

    model = PPGModel(make_encoder(), PPGHead(16, 29, hidden=8))
    folder = save_model(tmp_path / "ppg", model, "")
    with pytest.raises(ModelFolderError, match="knows no emotion"):
        export_onnx(folder, tmp_path / "export")


# The folder


@pytest.fixture
def quick(monkeypatch):
    """Write a graph of nothing, at once."""

    def write(_model, folder, _int8):
        for name in ("model.onnx", "model.onnx.data"):
            (folder / name).write_bytes(b"graph")

    monkeypatch.setattr("qieemo_sb.serving.onnx.export.write_graph", write)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "export"


def test_files(exported, source):
    assert sorted(os.listdir(exported)) == FILES
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1
    name = "label_encoder.txt"
    assert (exported / name).read_bytes() == (source / name).read_bytes()
    about = json.loads((exported / "export.json").read_text())
    assert about["format"] == 2
    assert sorted(about["sha256"]) == FILES[1:]
    card = (exported / "README.md").read_text()
    assert card.startswith("# ONNX export, float32 weights\n")
    assert card.endswith("# A card\n")


def test_tokens_travel_if_there_are_some(
    quick, target, make_model, tmp_path, labels=("a", "b", "c", "d")
):
    model = save_model(tmp_path / "m", make_model(), "", labels, Characters())
    export_onnx(model, target)
    name = "tokens.json"
    assert (target / name).read_bytes() == (model / name).read_bytes()
    assert name in (target / "export.json").read_text()


def test_model_without_a_card(quick, model_folder, target):
    (model_folder / "README.md").unlink()
    export_onnx(model_folder, target)
    assert (target / "README.md").read_text().startswith("# ONNX export")


def test_metadata_of_the_hub_stays_at_the_top(quick, model_folder, target):
    (model_folder / "README.md").write_text("---\na: b\n---\n\n# A card\n")
    export_onnx(model_folder, target)
    card = (target / "README.md").read_text()
    assert card.startswith("---\na: b\n---\n\n# ONNX export")
    assert card.endswith("\n# A card\n")


def test_an_export_is_replaced_and_nothing_else(quick, source, target):
    target.mkdir()  # empty: filled
    export_onnx(source, target)
    (target / "tokens.json").touch()
    export_onnx(source, target)
    assert sorted(os.listdir(target)) == FILES
    (target / "thesis.tex").touch()
    for place in (target, source):
        with pytest.raises(ExportError, match="holds something else"):
            export_onnx(source, place)
    with pytest.raises(ExportError, match="is a file"):
        export_onnx(source, target / "thesis.tex")
    assert (target / "thesis.tex").exists()


def test_broken_model_leaves_the_older_export(quick, model_folder, target):
    export_onnx(model_folder, target)
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(ModelFolderError, match="model.safetensors is missing"):
        export_onnx(model_folder, target)
    assert sorted(os.listdir(target)) == FILES


def test_crash_leaves_nothing_behind(source, target, monkeypatch):
    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.export.export", crash)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(source, target)
    assert os.listdir(target.parent) == []

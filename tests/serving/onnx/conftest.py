"""A small model all of whose parts matter, and its export."""

import shutil

import pytest
import torch

from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.onnx.export import export_onnx

LABELS = ["ang", "hap", "neu", "sad"]


@pytest.fixture(scope="session")
def stir():
    """Give a model weights that are far from their fresh values."""

    def change(model):
        torch.manual_seed(1)
        for name, value in model.state_dict().items():
            if name.endswith(("bias", "mean")):
                value.normal_(std=0.3)
            elif name.endswith("variance"):
                value.uniform_(0.5, 2.0)
            elif "norm" not in name and "positions" not in name:
                value.mul_(4.0)
        return model

    return change


@pytest.fixture(scope="session")
def model(make_model, stir):
    return stir(make_model())


@pytest.fixture(scope="session")
def source(model, tmp_path_factory):
    """The model's folder."""
    folder = tmp_path_factory.mktemp("onnx") / "model"
    return save_model(folder, model, "# A card\n", LABELS)


@pytest.fixture(scope="session")
def exported(source, tmp_path_factory):
    """Its export, which no test may change."""
    return export_onnx(source, tmp_path_factory.mktemp("onnx") / "export")


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the export."""
    return shutil.copytree(exported, tmp_path / "export")

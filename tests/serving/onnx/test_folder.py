"""An export as a folder: whole or not there at all."""

import os

import pytest

from qieemo_sb.errors import ModelFolderError
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.serving.bundle import save_bundle
from qieemo_sb.serving.onnx.export import export_onnx
from qieemo_sb.serving.onnx.model import ExportError

FILES = ["README.md", "label_encoder.txt", "model.onnx", "model.onnx.data"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "export"


def test_files(bundle, folder):
    assert export_onnx(bundle, folder) == folder
    assert sorted(os.listdir(folder)) == FILES
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_labels_are_those_of_the_bundle(bundle, folder):
    export_onnx(bundle, folder)
    name = "label_encoder.txt"
    assert (folder / name).read_bytes() == (bundle / name).read_bytes()


def test_tokens_travel_if_there_are_some(
    tmp_path, make_model, make_labels, folder
):
    bundle = save_bundle(
        tmp_path / "b", make_model(), make_labels(), "", Characters()
    )
    (bundle / "tokens.model").write_bytes(b"pieces")
    export_onnx(bundle, folder)
    names = ["tokens.json", "tokens.model"]
    assert sorted(os.listdir(folder)) == [*FILES, *names]
    for name in names:
        assert (folder / name).read_bytes() == (bundle / name).read_bytes()


@pytest.mark.parametrize("int8, weights", [(False, "float32"), (True, "int8")])
def test_card(bundle, folder, int8, weights):
    export_onnx(bundle, folder, int8)
    card = (folder / "README.md").read_text()
    assert card.startswith(f"# ONNX export, {weights} weights\n")
    assert card.endswith("# A card\n")
    assert ("rounded to 8 bits" in card) == int8


def test_bundle_without_a_card(bundle, folder):
    (bundle / "README.md").unlink()
    export_onnx(bundle, folder)
    assert (folder / "README.md").read_text().startswith("# ONNX export")


def test_int8_is_smaller(bundle, tmp_path):
    sizes = [
        (export_onnx(bundle, tmp_path / str(int8), int8) / "model.onnx.data")
        .stat()
        .st_size
        for int8 in (False, True)
    ]
    assert sizes[1] < sizes[0]


def test_an_older_export_is_replaced(bundle, folder):
    export_onnx(bundle, folder)
    (folder / "tokens.json").touch()
    export_onnx(bundle, folder)
    assert sorted(os.listdir(folder)) == FILES


def test_an_export_among_other_files_is_not(bundle, folder):
    export_onnx(bundle, folder)
    (folder / "thesis.tex").touch()
    with pytest.raises(ExportError, match="holds something else"):
        export_onnx(bundle, folder)
    assert (folder / "thesis.tex").exists()


def test_nothing_else_is_replaced(bundle, folder):
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(ExportError, match="holds something else"):
        export_onnx(bundle, folder)
    with pytest.raises(ExportError, match="is a file"):
        export_onnx(bundle, folder / "thesis.tex")
    with pytest.raises(ExportError, match="holds something else"):
        export_onnx(bundle, bundle)
    assert os.listdir(folder) == ["thesis.tex"]


def test_empty_folder_is_filled(bundle, folder):
    folder.mkdir()
    export_onnx(bundle, folder)
    assert sorted(os.listdir(folder)) == FILES


def test_broken_bundle_leaves_the_older_export(bundle, folder):
    export_onnx(bundle, folder)
    (bundle / "model.safetensors").unlink()
    with pytest.raises(ModelFolderError, match="model.safetensors is missing"):
        export_onnx(bundle, folder)
    assert sorted(os.listdir(folder)) == FILES
    assert sorted(os.listdir(folder.parent)) == ["bundle", "export"]


def test_crash_leaves_nothing_behind(bundle, folder, monkeypatch):
    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnx.save_model", crash)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(bundle, folder)
    assert os.listdir(folder.parent) == ["bundle"]

"""A recipe in a folder of its own."""

import pytest
from standin import TRAIN, YAML


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of a recipe, from which it is run."""
    (tmp_path / "recipe.yaml").write_text(YAML)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path

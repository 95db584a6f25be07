"""The model behind the export that tests share."""

import shutil

import pytest


@pytest.fixture(scope="session")
def model(make_model, stir):
    return stir(make_model())


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the export."""
    return shutil.copytree(exported, tmp_path / "export")

"""A model goes to the hub whole, once it is fit for it, and comes back."""

from pathlib import Path

import pytest
from hub import TOKEN, serving
from huggingface_hub import constants

from qieemo_sb import load_model
from qieemo_sb.cli import main
from qieemo_sb.errors import ModelFolderError, QieemoError
from qieemo_sb.evaluation.model_card import model_card, ppg_card
from qieemo_sb.serving.classifier import EmotionClassifier
from qieemo_sb.serving.folder import CARD
from qieemo_sb.serving.hub import FILES, check_card, push_to_hub
from qieemo_sb.serving.models import find_model

METADATA = "license: cc-by-4.0\npipeline_tag: audio-classification\n"
SCORES = {
    "confusion_matrix": [[1, 0], [0, 1]],
    "labels": ["sad", "happy"],
    "weighted_accuracy": 1.0,
    "unweighted_accuracy": 1.0,
    "weighted_f1": 1.0,
    "macro_f1": 1.0,
    "num_utterances": 2,
    "fold": 1,
    "seed": 1,
}
READINGS = {
    "character_error_rate": 0.5,
    "word_error_rate": 0.9,
    "num_utterances": 2,
    "tokens": "29 letters",
    "seed": 1,
}


def card(metadata=METADATA):
    return f"---\n{metadata}---\n\n# A card\n"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, and a client that is logged in there."""
    with serving() as server:
        url = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def folder(model_folder):
    (model_folder / CARD).write_text(card())
    return model_folder


def test_round_trip(hub, folder, sound):
    (folder / "notes.txt").write_text("for me")
    ours = load_model(folder)
    assert ours.push_to_hub("me/mine").startswith(f"{hub.url}/me/mine/commit/")
    repo = hub.repos["me/mine"]
    assert set(repo["files"]) == set(FILES) - {"tokens.json"}
    assert int(repo["sha"], 16) == 1 and not repo["private"]
    theirs, wav = load_model("me/mine"), sound(16_000)
    assert theirs(wav)[0].scores == ours(wav)[0].scores


def test_on_the_command_line(hub, folder, write_wav, sound, capsys):
    assert main(["push", str(folder), "me/mine", "--private"]) == 0
    assert capsys.readouterr().out.startswith(f"{hub.url}/me/mine/commit/")
    assert hub.repos["me/mine"]["private"]
    wav = str(write_wav(sound(16_000)))
    printed = set()
    for model in (str(folder), "me/mine"):
        assert main(["predict", wav, "--model", model]) == 0
        printed.add(capsys.readouterr().out)
    assert len(printed) == 1
    assert main(["push", str(folder / "gone"), "me/new"]) == 1
    assert "gone is no folder" in capsys.readouterr().err


def test_a_folder_goes_before_the_hub(hub, folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    here = f"{folder.parent.name}/{folder.name}"
    assert find_model(here) == Path(here)


def test_a_model_that_is_nowhere(hub, monkeypatch):
    places = "There is no folder me/gone, and no model.* ships.* The Hugging "
    with pytest.raises(ModelFolderError, match=places + "Face hub has no"):
        load_model("me/gone")
    with pytest.raises(ModelFolderError, match="ships: [^.]*open.$"):
        load_model(Path("me/gone"))  # is not for the hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelFolderError, match=places + "Face hub cannot"):
        load_model("me/gone")


def test_offline_the_cache_is_enough(hub, folder, monkeypatch):
    push_to_hub(folder, "me/mine")
    found = find_model("me/mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model("me/mine") == found
    with pytest.raises(QieemoError, match="cannot be reached.*OFFLINE"):
        push_to_hub(folder, "me/mine")


def test_a_hub_that_is_down(hub, folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for call in (find_model, lambda name: push_to_hub(folder, name)):
        with pytest.raises(QieemoError, match="cannot be reached"):
            call("me/mine")


def test_private_means_private(hub, folder, monkeypatch):
    push_to_hub(folder, "me/open")
    with pytest.raises(QieemoError, match="me/open is on the hub.* public"):
        push_to_hub(folder, "me/open", private=True)
    push_to_hub(folder, "me/closed", private=True)
    push_to_hub(folder, "me/closed", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(QieemoError, match="no model me/closed that you may"):
        find_model("me/closed")
    with pytest.raises(QieemoError, match="log in with 'hf auth login'"):
        push_to_hub(folder, "me/new")


@pytest.mark.parametrize("repo", ["a/b/c", "me/..", "my model"])
def test_a_name_that_no_model_can_have(repo, hub, folder):
    with pytest.raises(QieemoError, match="Repo id must|Cannot have") as caught:
        push_to_hub(folder, repo)
    assert "\n" not in str(caught.value) and hub.repos == {}


def test_a_broken_model_is_not_pushed(hub, folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelFolderError, match="damaged"):
        push_to_hub(folder, "me/mine")
    assert hub.repos == {}


def test_a_classifier_of_no_folder(hub, make_model):
    with pytest.raises(ModelFolderError, match="of no folder"):
        EmotionClassifier(make_model(), ["a", "b", "c", "d"]).push_to_hub("a/b")


@pytest.mark.parametrize(
    "text, fault",
    [
        ("# A card\n", "has no license and no pipeline_tag. .*'---'"),
        (card("license: mit\n"), "has no pipeline_tag"),
        (card("license: [\n"), "while parsing"),
        (card("- a\n- b\n"), "should be a dict"),
        (card(METADATA + "model-index:\n- name: a\n"), "model_index"),
        (card(METADATA.replace("cc-by-4.0", "mine")), 'license.*"mine.* not v'),
        (card(METADATA + "datasets: [my corpus]\n"), "datasets.*my corpus"),
    ],
)
def test_a_card_that_will_not_do(text, fault, hub, folder):
    (folder / CARD).write_text(text)
    with pytest.raises(ModelFolderError, match=fault) as caught:
        push_to_hub(folder, "me/mine")
    assert "\n" not in str(caught.value) and hub.repos == {}


def test_our_cards_will_do(hub, tmp_path):
    """Also for a corpus whose name the hub would not take."""
    check_card(find_model("open") / CARD)
    (tmp_path / "1").write_text(model_card({**SCORES, "corpus": "My corpus"}))
    (tmp_path / "2").write_text(ppg_card({**READINGS, "corpus": "Ünsere"}))
    several = {"corpora": ["emodb"], "read_speech": ["x"]}
    text = model_card({**SCORES, "corpus": "several", **several})
    assert "\ndatasets:\n- emodb\n- x\nlibrary_name: " in text
    (tmp_path / "3").write_text(text)
    for name in "123":
        check_card(tmp_path / name)

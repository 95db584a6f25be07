"""Stage 1's head in stage 2's hands."""

import pytest
import torch

from qieemo_sb.errors import CorpusError, ModelFolderError
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.model import PPGModel
from qieemo_sb.serving.folder import save_model
from qieemo_sb.training.ppg import (
    check_ctc,
    make_encoder,
    make_transcriber,
)
from qieemo_sb.training.resume import keep_tokens


@pytest.fixture
def stage_one(tmp_path, make_encoder):
    """Folder of a model that transcribes, and the model."""
    torch.manual_seed(1)
    encoder = make_encoder(seed=3)
    head = PPGHead(encoder.d_model, len(Characters()), hidden=8)
    model = PPGModel(encoder=encoder, ppg_head=head).eval()
    folder = save_model(tmp_path / "ppg", model, "", tokens=Characters())
    return folder, model


@pytest.fixture
def small_encoder(make_encoder):
    return make_encoder


def test_a_new_head_has_characters_and_trains(small_encoder):
    transcriber = make_transcriber(small_encoder())
    assert (
        transcriber.ppg_head.n_tokens == 29
        and transcriber.tokens == Characters()
    )
    assert not transcriber.trained
    assert all(p.requires_grad for p in transcriber.ppg_head.parameters())


def test_the_head_of_stage_one_arrives_with_its_weights(
    stage_one, small_encoder
):
    folder, model = stage_one
    transcriber = make_transcriber(small_encoder(seed=3), folder)
    x, size = torch.randn(1, 9, 16), torch.tensor([9])
    assert torch.equal(transcriber.ppg_head(x, size), model.ppg_head(x, size))
    assert transcriber.trained and transcriber.tokens == Characters()


@pytest.mark.parametrize("freeze", [True, False])
def test_the_head_can_be_kept_or_trained(stage_one, small_encoder, freeze):
    head = make_transcriber(
        small_encoder(seed=3), stage_one[0], freeze
    ).ppg_head
    assert head.frozen == freeze
    assert all(p.requires_grad != freeze for p in head.parameters())


def test_a_head_of_another_encoder_is_refused(stage_one, small_encoder):
    folder, _ = stage_one
    with pytest.raises(ModelFolderError) as error:
        make_transcriber(small_encoder(seed=4), folder)
    assert str(error.value).count("WhisperEncoder of 3 blocks") == 2
    assert str(folder) in str(error.value)


def test_the_encoder_of_stage_one_can_be_taken_too(stage_one):
    folder, model = stage_one
    encoder = make_encoder(folder, trainable_above=1)
    assert encoder.trainable_above == 1
    assert make_transcriber(encoder, folder).trained
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[key], value)


def test_a_model_that_does_not_transcribe_is_refused(
    model_folder, small_encoder, tmp_path
):
    with pytest.raises(ModelFolderError, match="was not trained to"):
        make_transcriber(small_encoder(), model_folder)
    with pytest.raises(ModelFolderError, match="is no model folder"):
        make_transcriber(small_encoder(), tmp_path)


def test_checkpoints_of_other_tokens_are_refused(tmp_path):
    keep_tokens(tmp_path / "save", Characters())
    (tmp_path / "save/CKPT+1").mkdir()
    keep_tokens(tmp_path / "save", Characters())
    events = Characters(keep_events=True)
    with pytest.raises(CorpusError, match="29 characters.*30 characters"):
        keep_tokens(tmp_path / "save", events)


@pytest.mark.parametrize(
    "parts, crop, problem",
    [
        ({"ppg_head": None, "mmf": None, "cma": None}, None, "no PPG head"),
        ({"ppg_head": PPGHead(16, 29).freeze()}, None, "set freeze_ppg"),
        ({}, 2.0, "set crop_seconds"),
    ],
)
def test_a_ctc_loss_that_teaches_nothing_is_refused(
    make_model, parts, crop, problem
):
    check_ctc(make_model(), 1.0, None)
    check_ctc(make_model(**parts), 0.0, crop)
    with pytest.raises(CorpusError, match=problem):
        check_ctc(make_model(**parts), 1.0, crop)

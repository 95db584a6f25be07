"""Stage 1's head in stage 2's hands."""

import pytest
import torch
from qieemo_sb.serving.bundle import save_bundle

from qieemo_sb.errors import ModelFolderError
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.lobes.tokens import Characters, Phonemes
from qieemo_sb.model import Qieemo
from qieemo_sb.serving.speechbrain import EncoderClassifier
from qieemo_sb.training.ppg import check_tokens, make_encoder, make_reader


@pytest.fixture
def stage_one(tmp_path, make_encoder):
    """Folder of a model that reads, and the model."""
    torch.manual_seed(1)
    encoder = make_encoder(seed=3)
    head = PPGHead(encoder.d_model, len(Characters()), hidden=8)
    model = Qieemo(encoder=encoder, ppg_head=head).eval()
    folder = save_bundle(tmp_path / "ppg", model, None, "", Characters())
    return folder, model


@pytest.fixture
def small_encoder(make_encoder):
    return make_encoder


def test_a_new_head_reads_characters_and_learns(small_encoder):
    reader = make_reader(small_encoder())
    assert reader.ppg_head.n_tokens == 29 and reader.tokens == Characters()
    assert not reader.trained
    assert all(p.requires_grad for p in reader.ppg_head.parameters())


def test_the_head_of_stage_one_arrives_with_its_weights(
    stage_one, small_encoder
):
    folder, model = stage_one
    reader = make_reader(small_encoder(seed=3), folder)
    x, size = torch.randn(1, 9, 16), torch.tensor([9])
    expected = model.ppg_head(x, size)  # a frozen head multiplies faster
    assert torch.allclose(reader.ppg_head(x, size), expected, atol=1e-5)
    assert reader.trained and reader.tokens == Characters()


@pytest.mark.parametrize("freeze", [True, False])
def test_the_head_can_be_kept_or_trained(stage_one, small_encoder, freeze):
    head = make_reader(small_encoder(seed=3), stage_one[0], freeze).ppg_head
    assert head.frozen == freeze
    assert all(p.requires_grad != freeze for p in head.parameters())


def test_a_head_of_another_encoder_is_refused(stage_one, small_encoder):
    folder, _ = stage_one
    with pytest.raises(ModelFolderError) as error:
        make_reader(small_encoder(seed=4), folder)
    assert str(error.value).count("WhisperEncoder of 3 blocks") == 2
    assert str(folder) in str(error.value)


def test_the_encoder_of_stage_one_can_be_taken_too(stage_one):
    folder, model = stage_one
    encoder = make_encoder(folder, trainable_above=1)
    assert encoder.trainable_above == 1
    assert make_reader(encoder, folder).trained
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[key], value)


def test_a_model_that_does_not_read_is_refused(bundle, small_encoder):
    with pytest.raises(ModelFolderError, match="was not trained to read"):
        make_reader(small_encoder(), bundle)


def test_a_folder_without_a_model_is_refused(tmp_path, small_encoder):
    with pytest.raises(ModelFolderError, match="is no bundle"):
        make_reader(small_encoder(), tmp_path)


def test_checkpoints_of_other_tokens_are_refused(tmp_path):
    check_tokens(Characters(), tmp_path / "save")
    check_tokens(Characters(), tmp_path / "save")
    with pytest.raises(ModelFolderError, match="29 characters.*5 en-us"):
        check_tokens(Phonemes().fit(["kid"]), tmp_path / "save")


def test_stage_two_keeps_what_stage_one_reads(
    stage_one, make_model, make_labels, tmp_path, sound
):
    folder, model = stage_one
    reader = make_reader(model.encoder, folder)
    whole = make_model(encoder=model.encoder, ppg_head=reader.ppg_head)
    saved = save_bundle(tmp_path / "q", whole, make_labels(), "", reader.tokens)
    wav = sound(20_000)
    said = [
        EncoderClassifier.from_hparams(where).transcribe_batch(wav)
        for where in (folder, saved)
    ]
    assert said[0] == said[1]

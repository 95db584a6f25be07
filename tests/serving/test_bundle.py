"""A model and its folder."""

import os

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from safetensors.torch import load_file, save_file
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)

from qieemo_sb.audio import read_audio
from qieemo_sb.errors import ModelFolderError
from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.fusion import Concatenation
from qieemo_sb.lobes.pooling import AttentiveStatisticsPooling
from qieemo_sb.lobes.speaker import SpeakerModel, speaker_moments
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.serving.bundle import (
    describe,
    load_model,
    load_weights,
    save_bundle,
)
from qieemo_sb.serving.onednn import speed_up
from qieemo_sb.serving.speechbrain import EncoderClassifier

FILES = [
    "README.md",
    "hyperparams.yaml",
    "label_encoder.txt",
    "model.safetensors",
]


def load(folder):
    return EncoderClassifier.from_hparams(folder)


def loaded_model(folder):
    return load(folder).mods.qieemo


def log_probs(model, wavs):
    return model.eval()(wavs).log_probs


def close(a, b):
    """Equal up to the rounding of the layers that a served model has."""
    return torch.allclose(a, b, atol=1e-5)


# Round trips


def test_parameters_are_halved_and_statistics_are_not(
    tmp_path, make_model, make_labels, sound
):
    model = make_model()
    model.classifier.standard.variance.fill_(1e5)  # float16 ends at 65 504
    folder = tmp_path / "b"
    save_bundle(folder, model, make_labels(), "", dtype=torch.float16)
    learned = dict(model.named_parameters())
    for name, value in load_file(folder / "model.safetensors").items():
        expected = torch.float16 if name in learned else torch.float32
        assert value.dtype == expected, name
    wavs = sound(16_000)[None]
    found, expected = loaded_model(folder)(wavs), model(wavs)
    assert found.log_probs.dtype == torch.float32
    assert torch.allclose(found.log_probs, expected.log_probs, atol=0.02)


@pytest.mark.parametrize("tokens", [None, Characters()])
def test_round_trip(tmp_path, make_model, make_labels, variant, tokens, sound):
    model = make_model(**variant)
    if model.ppg_head is None:
        tokens = None
    folder = save_bundle(tmp_path / "b", model, make_labels(), "", tokens)
    wavs = sound(16_000)[None]
    expected = log_probs(model, wavs)
    classifier = load(folder)
    assert close(log_probs(classifier.mods.qieemo, wavs), expected)
    assert classifier.labels == ["neu", "hap", "ang", "sad"]
    theirs = SpeechBrainEncoderClassifier.from_hparams(source=str(folder))
    assert close(theirs.classify_batch(wavs)[0], expected)
    if tokens is not None:
        assert classifier.tokens == tokens


def test_round_trip_of_one_block(tmp_path, make_model, make_labels, sound):
    model = make_model(mixer=BlockMixer([2], 16))
    folder = save_bundle(tmp_path / "b", model, make_labels(), "")
    again, wavs = loaded_model(folder), sound(16_000)[None]
    assert again.blocks == [2, 3]
    assert close(log_probs(again, wavs), log_probs(model, wavs))


def test_round_trip_of_a_join_that_was_named(
    tmp_path, make_model, make_labels, sound
):
    model = make_model(mmf=Concatenation(29, 16, 12, dropout=0.2))
    folder = save_bundle(tmp_path / "b", model, make_labels(), "")
    again, wavs = loaded_model(folder), sound(16_000)[None]
    assert close(log_probs(again, wavs), log_probs(model, wavs))


def test_round_trip_of_a_speaker_model(
    tmp_path, make_model, make_labels, write_wav, sound
):
    model, speakers = make_model(), SpeakerModel(24, 4)
    for buffer in (speakers.content, speakers.emotions):
        torch.nn.init.normal_(buffer)
    wavs = [write_wav(sound(9_000, i), name=f"{i}.wav") for i in range(3)]
    plain = load(save_bundle(tmp_path / "a", model, make_labels(), ""))
    model.speaker_model = speakers  # as training does
    folder = save_bundle(tmp_path / "b", model, make_labels(), "")
    found = load(folder).adapt(wavs)
    vectors = torch.cat([plain.encode_batch(read_audio(wav)) for wav in wavs])
    expected = speaker_moments(vectors, model.classifier, speakers)
    assert close(found.mean, expected.mean)
    assert close(found.variance, expected.variance)
    assert not close(found.mean, plain.adapt(wavs).mean)


def test_saved_again_it_is_the_same(tmp_path, bundle, make_labels):
    again = save_bundle(
        tmp_path / "again", loaded_model(bundle), make_labels(), "# A card\n"
    )
    for name in FILES:
        assert (again / name).read_bytes() == (bundle / name).read_bytes()


def test_weights_are_float32(tmp_path, make_model, make_labels):
    folder = tmp_path / "b"
    save_bundle(folder, make_model().half(), make_labels(), "")
    weights = load_file(folder / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32}


def test_saving_leaves_the_model_as_it_was(bundle, make_labels, tmp_path):
    model = loaded_model(bundle).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    save_bundle(tmp_path / "b", model, make_labels(), "")
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@torch.no_grad()
def test_model_alone(bundle, sound):
    model, labels = load_model(bundle)
    speed_up(model)  # as the classifier does
    wavs = sound(16_000)[None]
    assert torch.equal(
        model(wavs).log_probs, load(bundle).classify_batch(wavs)[0]
    )
    assert labels == ["neu", "hap", "ang", "sad"]
    assert not any(p.requires_grad for p in model.parameters())


def test_model_alone_of_stage_one(tmp_path, make_model):
    parts = ("mixer", "mmf", "cma", "pooling", "classifier")
    model = make_model(**dict.fromkeys(parts))
    save_bundle(tmp_path / "m", model, None, "", Characters())
    with pytest.raises(ModelFolderError, match="knows no emotion"):
        load_model(tmp_path / "m")


# Files


def test_nothing_but_its_files(bundle):
    assert sorted(os.listdir(bundle)) == FILES
    assert os.listdir(bundle.parent) == [bundle.name]


def test_tokens_travel_if_there_are_some(tmp_path, make_model, make_labels):
    folder = save_bundle(
        tmp_path / "b", make_model(), make_labels(), "", Characters()
    )
    assert sorted(os.listdir(folder)) == [*FILES, "tokens.json"]


def test_weights_are_those_of_the_model(tmp_path, make_model, make_labels):
    model = make_model()
    folder = save_bundle(tmp_path / "b", model, make_labels(), "")
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(weights[name], value)


def test_folder_is_replaced(bundle, make_model, make_labels):
    (bundle / "old.txt").write_text("of the model before")
    model = make_model(mmf=None)
    assert save_bundle(bundle, model, make_labels(), "new") == bundle
    assert sorted(os.listdir(bundle)) == FILES
    assert (bundle / "README.md").read_text() == "new"


def test_half_a_bundle_is_none(bundle, make_model, make_labels):
    with pytest.raises(TypeError):
        save_bundle(bundle, make_model(), make_labels(), card=None)
    assert (bundle / "README.md").read_text() == "# A card\n"
    load(bundle)


def test_leftovers_of_a_crash_do_not_matter(tmp_path, make_model, make_labels):
    (tmp_path / "b.unfinished").mkdir()
    (tmp_path / "b.unfinished" / "half.txt").touch()
    folder = save_bundle(tmp_path / "b", make_model(), make_labels(), "")
    assert sorted(os.listdir(folder)) == FILES
    assert os.listdir(tmp_path) == ["b"]


# The yaml


def test_yaml_has_no_source_and_no_placeholder(make_model):
    text = describe(make_model())
    assert "source" not in text
    assert "PLACEHOLDER" not in text


def test_yaml_builds_the_same_shape(make_model, variant):
    model = make_model(**variant)
    again = load_hyperpyyaml(describe(model))["model"]
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes


def test_part_that_cannot_be_described(make_model):
    pooling = AttentiveStatisticsPooling(12, hidden=torch.tensor(8))
    with pytest.raises(TypeError, match=r"cannot describe tensor\(8\)"):
        describe(make_model(pooling=pooling))


# What is not whole


def refusal(folder, name):
    with pytest.raises(ModelFolderError) as caught:
        load(folder)
    assert name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["hyperparams.yaml", "label_encoder.txt", "model.safetensors"]
)
def test_missing_file(bundle, name):
    (bundle / name).unlink()
    refusal(bundle, name)
    with pytest.raises(ModelFolderError, match=name):
        load_model(bundle)


def test_no_bundle_at_all(bundle):
    for place in (bundle / "gone", bundle / "README.md"):
        with pytest.raises(ModelFolderError, match="is no bundle"):
            load_model(place)


def test_yaml_without_a_model(bundle):
    path = bundle / "hyperparams.yaml"
    for other in ("model: 1", "modell: 1"):
        path.write_text(other)
        with pytest.raises(ModelFolderError, match="no Qieemo as model"):
            load_model(bundle)


def test_missing_tokens(tmp_path, make_model, make_labels):
    folder = save_bundle(
        tmp_path / "b", make_model(), make_labels(), "", Characters()
    )
    (folder / "tokens.json").unlink()
    assert "is missing" in refusal(folder, "tokens.json")


def test_card_is_for_people(bundle):
    (bundle / "README.md").unlink()
    load(bundle)


@pytest.mark.parametrize("size", [0, 5, 1_000, -1])
def test_truncated_weights(bundle, size):
    path = bundle / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert "is damaged" in refusal(bundle, "model.safetensors")


def test_a_pickle_is_no_weights(bundle):
    torch.save({"a": torch.zeros(1)}, bundle / "model.safetensors")
    assert "is damaged" in refusal(bundle, "model.safetensors")


def change_weights(bundle, change):
    path = bundle / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: w.pop("cma.norm.bias"), "cma.norm.bias"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra"),
        (
            lambda w: w.update({"cma.norm.bias": torch.zeros(7)}),
            "cma.norm.bias",
        ),
        (lambda w: w.clear(), "encoder.conv1.weight"),
    ],
    ids=["missing", "extra", "shape", "empty"],
)
def test_keys_that_do_not_match(bundle, change, message):
    change_weights(bundle, change)
    assert message in refusal(bundle, "model.safetensors")


def test_weights_of_another_model(bundle, tmp_path, make_model, make_labels):
    other = make_model(mmf=None)
    folder = save_bundle(tmp_path / "other", other, make_labels(), "")
    (folder / "model.safetensors").replace(bundle / "model.safetensors")
    assert "does not fit" in refusal(bundle, "model.safetensors")


@pytest.mark.parametrize("names", [("neu",), ("a", "b", "c", "d", "e")])
def test_labels_of_another_count(
    bundle, tmp_path, make_model, make_labels, names
):
    expected = f"has {len(names)} names, the model has 4 outputs"
    labels = make_labels(names)
    with pytest.raises(ModelFolderError, match=expected):
        save_bundle(tmp_path / "b", make_model(), labels, "")
    labels.save(bundle / "label_encoder.txt")
    assert expected in refusal(bundle, "label_encoder.txt")


def test_labels_that_leave_an_output_out(bundle):
    path = bundle / "label_encoder.txt"
    path.write_text(path.read_text().replace("=> 3", "=> 4"))
    refusal(bundle, "label_encoder.txt")


@pytest.mark.parametrize(
    "contents",
    [b"", b"'neu' => 0\n'ha", b"\xff\xfe\x00", b"neu => 0\n", b"'a' => b\n"],
)
def test_damaged_labels(bundle, contents):
    (bundle / "label_encoder.txt").write_bytes(contents)
    refusal(bundle, "label_encoder.txt")


def test_two_outputs_of_one_name(bundle):
    path = bundle / "label_encoder.txt"
    path.write_text(path.read_text().replace("'hap'", "'neu'"))
    refusal(bundle, "label_encoder.txt")


@pytest.mark.parametrize("contents", [b"", b"hello", b"[1]", b"\xff\x00"])
def test_yaml_that_is_no_mapping(bundle, contents):
    (bundle / "hyperparams.yaml").write_bytes(contents)
    with pytest.raises(ValueError, match="hyperparams.yaml"):
        load(bundle)


@pytest.mark.parametrize(
    "old, new",
    [("n_heads: 2", "n_heads: 0"), ("d_model: 16", "d_model: -1")],
)
def test_yaml_of_what_cannot_be_built(bundle, old, new):
    path = bundle / "hyperparams.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=r"hyperparams.yaml|safetensors"):
        load(bundle)


def test_yaml_that_is_a_folder(bundle):
    (bundle / "hyperparams.yaml").unlink()
    (bundle / "hyperparams.yaml").mkdir()
    refusal(bundle, "hyperparams.yaml")


def test_a_model_that_is_neither_here_nor_on_the_hub(monkeypatch):
    with pytest.raises(
        ModelFolderError, match="no folder some/where here"
    ):
        load("some/where")


def test_truncated_yaml(bundle):
    path = bundle / "hyperparams.yaml"
    path.write_text(path.read_text()[:-300])
    with pytest.raises(ValueError, match="hyperparams.yaml"):
        load(bundle)


def test_yaml_without_our_loader(bundle):
    path = bundle / "hyperparams.yaml"
    path.write_text(path.read_text() + "\nsomething: else\n")
    load(bundle)
    path.write_text(path.read_text().replace("pretrainer:", "trainer:"))
    assert "no BundleLoader" in refusal(bundle, "hyperparams.yaml")


def test_a_file_is_no_bundle(bundle):
    with pytest.raises(
        ModelFolderError, match="is a file; a bundle is"
    ):
        load(bundle / "hyperparams.yaml")


@pytest.mark.parametrize("contents", [None, b""])
def test_weights_by_themselves(make_model, tmp_path, contents):
    path = tmp_path / "w.safetensors"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ModelFolderError, match="w.safetensors is"):
        load_weights(make_model(), path)

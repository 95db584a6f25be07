"""A model folder holds the whole model, or says what is wrong with it."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from speechbrain.dataio.encoder import CategoricalEncoder

from qieemo_sb.encoders.ssl import SSLEncoder
from qieemo_sb.errors import ModelFolderError
from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.fusion import MMF, Concatenation
from qieemo_sb.lobes.ppg import PretrainedPPGHead
from qieemo_sb.lobes.speaker import SpeakerModel
from qieemo_sb.lobes.tokens import Characters, Pieces, Tokenizer
from qieemo_sb.model import PARTS, PPGModel
from qieemo_sb.serving.folder import (
    load_folder,
    read_labels,
    replacing_folder,
    save_model,
    sha256,
    write_labels,
)

LABELS = ["neu", "hap", "ang", "sad"]
N_TOKENS, D_MODEL, WIDTH = 29, 16, 12
FLOAT8 = torch.float8_e4m3fn  # for which isfinite is not implemented
FILES = [
    "README.md",
    "config.json",
    "hyperparams.yaml",
    "label_encoder.txt",
    "model.safetensors",
]


def ssl():
    """A small HuBERT in the place of Whisper."""
    dims = {
        "family": "hubert",
        "normalise": True,
        "hidden_size": D_MODEL,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [4] * 7,
        "num_conv_pos_embedding_groups": 2,
    }
    return {
        "encoder": SSLEncoder(dims=dims),
        "ppg_head": PretrainedPPGHead(D_MODEL, N_TOKENS),
        "mmf": Concatenation(N_TOKENS, D_MODEL, WIDTH, dropout=0.2),
        "speaker_model": SpeakerModel(2 * WIDTH, len(LABELS)),
    }


def one_block():
    """The blocks of a mixer that mixes nothing."""
    return {"mixer": BlockMixer([2], D_MODEL)}


def save(folder, model, **options):
    return save_model(folder, model, "", **{"labels": LABELS, **options})


def refusal(folder):
    with pytest.raises(ModelFolderError) as caught:
        load_folder(folder)
    return str(caught.value)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def change_config(folder, change):
    """Change the config, and leave out its own checksum."""
    config = config_of(folder)
    config["sha256"].pop("config.json", None)
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def read_unsigned(folder):
    """Text of the config, without its own checksum."""
    change_config(folder, lambda config: None)
    return (folder / "config.json").read_text()


def change_weights(folder, change):
    """Change weights, and the checksum with them."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    sign(folder, "model.safetensors")


def sign(folder, name):
    digest = sha256(folder / name)
    change_config(
        folder, lambda config: config["sha256"].update({name: digest})
    )


# Round trips


def test_round_trip(variant_model, tmp_path, sound):
    check_round_trip(variant_model, tmp_path, sound(16_000)[None])


@pytest.mark.parametrize("parts", [ssl, one_block])
def test_round_trip_of_other_parts(parts, tmp_path, make_model, sound):
    check_round_trip(make_model(**parts()), tmp_path, sound(16_000)[None])


@torch.no_grad()
def check_round_trip(model, tmp_path, wavs):
    """Save and load a model; it is the same one."""
    loaded = load_folder(save(tmp_path / "m", model))
    again = loaded.model.eval()
    assert again.config == model.config
    weights = again.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(weights[key], value), key
    assert torch.equal(again(wavs).log_probs, model(wavs).log_probs)
    assert (loaded.labels, loaded.tokens) == (LABELS, None)


def test_every_class_of_every_part_makes_the_round_trip(make_model, variants):
    found = set()
    for model in (*variants.values(), make_model(**ssl())):
        found |= {part["class"] for part in list(model.config.values())[1:]}
    assert found == {name for rivals in PARTS.values() for name in rivals}


@pytest.mark.parametrize(
    "tokens",
    [
        Characters(),
        Pieces(29).fit(["a quick brown fox jumps over and over the lazy dog"]),
        Tokenizer("phonemes", ["<blank>", *map(chr, range(0x250, 0x26C))]),
    ],
    ids=str,
)
def test_stage_one_and_its_tokens(tokens, tmp_path, make_model):
    whole = make_model()
    model = PPGModel(whole.encoder, whole.ppg_head)
    folder = save(tmp_path / "m", model, labels=None, tokens=tokens)
    loaded = load_folder(folder)
    assert isinstance(loaded.model, PPGModel)
    assert loaded.labels is None
    assert loaded.tokens == tokens
    indices = [3, 5, 8]
    assert loaded.tokens.decode_ids(indices) == tokens.decode_ids(indices)
    assert "label_encoder.txt" not in os.listdir(folder)


def test_parameters_are_halved_and_statistics_are_not(tmp_path, make_model):
    model = make_model()
    model.classifier.standard.variance.fill_(1e5)  # float16 ends at 65 504
    folder = save(tmp_path / "m", model, dtype=torch.float16)
    learned = dict(model.named_parameters())
    for name, value in load_file(folder / "model.safetensors").items():
        expected = torch.float16 if name in learned else torch.float32
        assert value.dtype == expected, name
    loaded = load_folder(folder).model.state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    assert loaded["classifier.standard.variance"].unique() == 1e5


def test_saving_writes_float32_and_leaves_the_model_as_it_was(
    tmp_path, make_model
):
    model = make_model().half().train()
    folder = save(tmp_path / "m", model)
    weights = load_file(folder / "model.safetensors").values()
    assert {value.dtype for value in weights} == {torch.float32}
    assert model.training
    assert next(model.parameters()).dtype == torch.float16


def test_saved_again_it_is_the_same(model_folder, tmp_path):
    loaded = load_folder(model_folder)
    again = save_model(
        tmp_path / "again", loaded.model, "# A card\n", loaded.labels
    )
    assert sorted(os.listdir(model_folder)) == FILES
    for name in FILES:
        assert (again / name).read_bytes() == (model_folder / name).read_bytes()


def test_a_config_is_pleasant_to_read(model_folder):
    lines = (model_folder / "config.json").read_text().splitlines()
    assert '    "blocks": [1, 2],' in lines
    assert max(map(len, lines)) < 100


# Writing


def test_a_folder_is_replaced_and_leftovers_go(model_folder, make_model):
    (model_folder / "old.txt").touch()
    beside = model_folder.with_name("model.unfinished")
    beside.mkdir()
    (beside / "half.txt").touch()
    assert save(model_folder, make_model(mmf=None)) == model_folder
    assert sorted(os.listdir(model_folder)) == FILES
    assert os.listdir(model_folder.parent) == [model_folder.name]


def test_a_folder_is_written_completely_or_not_at_all(model_folder, make_model):
    with pytest.raises(TypeError):
        save_model(model_folder, make_model(), None, LABELS)
    assert (model_folder / "README.md").read_text() == "# A card\n"
    load_folder(model_folder)
    assert os.listdir(model_folder.parent) == [model_folder.name]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"labels": ["a", "b"]}, "has 2 names, the model has 4 outputs"),
        ({"labels": None}, "has 0 names, the model has 4 outputs"),
        ({"labels": ["a", "b", "c", "c"]}, "has 3 names"),
        ({"labels": ["a", "b", "c", "d\te"]}, "control characters"),
        ({"tokens": Tokenizer("x", ["<blank>", "a"])}, "tokens has 2 names"),
    ],
)
def test_names_that_do_not_fit_are_not_saved(
    options, message, tmp_path, make_model
):
    with pytest.raises(ModelFolderError, match=message):
        save(tmp_path / "m", make_model(), **options)
    assert os.listdir(tmp_path) == []


def test_a_class_of_no_dictionary_is_not_saved(tmp_path, make_model):
    class Mine(MMF):
        pass

    model = make_model(mmf=Mine(N_TOKENS, D_MODEL, WIDTH))
    with pytest.raises(ModelFolderError, match="no mmf 'Mine': known are MMF"):
        save(tmp_path / "m", model)


def test_a_model_is_no_file(model_folder, make_model):
    path = model_folder / "README.md"
    with pytest.raises(ModelFolderError, match="is a file"):
        save(path, make_model())
    assert "is no folder" in refusal(path)


# Damage


@pytest.mark.parametrize(
    "name", ["config.json", "label_encoder.txt", "model.safetensors"]
)
def test_a_missing_file_is_named(name, model_folder):
    (model_folder / name).unlink()
    assert name in refusal(model_folder)


def test_card_and_yaml_are_not_needed(model_folder):
    (model_folder / "README.md").unlink()
    (model_folder / "hyperparams.yaml").unlink()
    load_folder(model_folder)


@pytest.mark.parametrize("name", ["label_encoder.txt", "model.safetensors"])
def test_a_changed_file_is_damaged(name, model_folder):
    path = model_folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert f"{name} is damaged" in refusal(model_folder)


def test_a_changed_value_is_damage(model_folder):
    """One bit of it: the weights would fit and the answers be others."""
    path = model_folder / "config.json"
    text = path.read_text()
    assert '"blocks": [1, 2],' in text
    path.write_text(text.replace('"blocks": [1, 2],', '"blocks": [1, 3],'))
    assert "config.json is damaged: its checksum" in refusal(model_folder)


def test_layout_is_no_damage_and_older_folders_load(model_folder):
    path = model_folder / "config.json"
    path.write_text(json.dumps(config_of(model_folder), indent=None))
    load_folder(model_folder)
    read_unsigned(model_folder)
    load_folder(model_folder)


@pytest.mark.parametrize("contents", [b"", b"PK", b"\xff" * 100])
def test_what_holds_no_weights_is_damaged(contents, model_folder):
    (model_folder / "model.safetensors").write_bytes(contents)
    sign(model_folder, "model.safetensors")
    assert "model.safetensors is damaged" in refusal(model_folder)


@pytest.mark.parametrize(
    "change, name",
    [
        (lambda w: w.pop("cma.norm.bias"), "cma.norm.bias is None"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra"),
        (
            lambda w: w.update({"cma.norm.bias": torch.zeros(7)}),
            r"cma.norm.bias is [7] in model.safetensors where [12]",
        ),
        (lambda w: w["cma.norm.bias"].fill_(torch.nan), "cma.norm.bias is"),
        (lambda w: w["cma.norm.bias"].fill_(torch.inf), "NaN or infinite"),
        (
            lambda w: w.update({"cma.norm.bias": torch.zeros(12).to(FLOAT8)}),
            "cma.norm.bias is no float16 or float32",
        ),
        (lambda w: w.update({"cma.norm.bias": torch.zeros(12).int()}), "is no"),
    ],
    ids=["missing", "extra", "shape", "nan", "infinite", "float8", "int"],
)
def test_weights_that_do_not_fit(change, name, model_folder):
    change_weights(model_folder, change)
    assert name in refusal(model_folder)


def test_loading_draws_no_numbers(model_folder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load_folder(model_folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_of_another_model(model_folder, tmp_path, make_model):
    other = save(tmp_path / "other", make_model(mmf=None))
    shutil.copy(other / "model.safetensors", model_folder)
    sign(model_folder, "model.safetensors")
    assert "do not belong together" in refusal(model_folder)


@pytest.mark.parametrize(
    "contents, message",
    [
        (b"", "config.json is damaged"),
        (b"{", "config.json is damaged"),
        (b"\xff\x00", "config.json is damaged"),
        (b"[" * 100_000, "config.json is damaged"),
        (b"[1]", "not of format 1"),
        (b'{"format": 2}', "not of format 1"),
        (b'{"format": 1, "sha256": {}}', "no checksums"),
        (
            b'{"format": 1, "sha256": {"model.safetensors": "", "../x": ""}}',
            "no checksums",
        ),
        (b'{"model_type": "wav2vec2"}', "Hugging Face checkpoint .wav2vec2."),
    ],
)
def test_a_config_of_something_else(contents, message, model_folder):
    (model_folder / "config.json").write_bytes(contents)
    with pytest.raises(ModelFolderError, match=message):
        load_folder(model_folder)


def leaves(values, path=()):
    """Paths to all values of nested dicts and lists."""
    for key in values if isinstance(values, dict) else range(len(values)):
        yield (*path, key)
        if isinstance(values[key], dict | list):
            yield from leaves(values[key], (*path, key))


def test_no_value_of_a_config_builds_something_else(tmp_path, variants):
    """Each value in turn is replaced; nothing but our error may come of it."""
    model = variants["statistics"]
    folder = save(tmp_path / "m", model)
    text = read_unsigned(folder)
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    for path in leaves(json.loads(text)):
        for value in (-1, 99_999, "x", None, [[]]):
            config = json.loads(text)
            place = config
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            (folder / "config.json").write_text(json.dumps(config))
            try:
                again = load_folder(folder).model
            except ModelFolderError:
                continue
            found = {k: v.shape for k, v in again.state_dict().items()}
            assert found == shapes, (path, value)


def test_huge_sizes_are_refused_before_anything_is_built(model_folder):
    # One long weight more does not make other sizes likely.
    change_weights(model_folder, lambda w: w.update(zzz=torch.ones(99_999)))
    text = (model_folder / "config.json").read_text()  # unsigned by now
    for part, name, size, message in (
        ("mmf", "width", 14, "12 is needed"),
        ("ppg_head", "hidden", 14, "14] is needed"),
        ("mmf", "width", 1_400, "is larger than model.safetensors"),
        ("encoder", "n_blocks", 1_400, "is larger than model.safetensors"),
        # Its positions alone would be 600 MB.
        ("encoder", "d_model", 99_999, "is larger than model.safetensors"),
        ("encoder", "n_mels", 99_999, "a spectrum has 201 bins"),
        ("encoder", "ffn_dim", 10**10, "encoder has values of no model"),
    ):
        config = json.loads(text)
        place = config[part]
        place.get("dims", place)[name] = size
        (model_folder / "config.json").write_text(json.dumps(config))
        assert message in refusal(model_folder)


@pytest.mark.parametrize(
    "part, name, value, message",
    [
        ("cma", "heads", 2.0, "cma cannot be built: 'float' object"),
        ("dims", "n_heads", 0.5, "encoder cannot be built: 'float' object"),
        ("mixer", "blocks", [0.5, 1], r"there is no block [0.5]"),
        ("mixer", "blocks", [1] * 10**5, "mixer has values of no model"),
    ],
)
def test_values_of_another_type(part, name, value, message, model_folder):
    def change(config):
        {**config, **config["encoder"]}[part][name] = value

    change_config(model_folder, change)
    assert message in refusal(model_folder)


def test_an_older_release(model_folder):
    (model_folder / "config.json").unlink()
    assert "older releases kept models as yaml" in refusal(model_folder)


def test_damaged_tokens(tmp_path, make_model):
    folder = save(tmp_path / "m", make_model(), tokens=Characters())
    for contents, message in (
        ("{", "tokens.json is damaged"),
        ("{}", "tokens.json"),
        (
            json.dumps(Tokenizer("x", ["<blank>"]).facts),
            "tokens.json has 1 names",
        ),
    ):
        (folder / "tokens.json").write_text(contents)
        sign(folder, "tokens.json")
        assert message in refusal(folder)
    (folder / "tokens.json").unlink()
    assert "tokens.json is missing" in refusal(folder)


# What is no file of the model


@pytest.mark.parametrize(
    "name", ["config.json", "label_encoder.txt", "model.safetensors"]
)
def test_a_pipe_is_not_waited_for(name, model_folder):
    (model_folder / name).unlink()
    os.mkfifo(model_folder / name)
    assert name in refusal(model_folder)


@pytest.mark.parametrize("name", ["label_encoder.txt", "README.md"])
def test_a_link_out_of_the_folder_is_refused(name, model_folder, tmp_path):
    """Its contents would be published with an export."""
    path = model_folder / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert f"{name} is a link to" in refusal(model_folder)


def test_a_link_to_itself_is_no_file(model_folder):
    path = model_folder / "model.safetensors"
    path.unlink()
    path.symlink_to(path)
    assert "model.safetensors is missing" in refusal(model_folder)


def test_links_of_a_cache_are_followed(model_folder, tmp_path):
    """To one folder with all files, as those of Hugging Face's cache are."""
    blobs = tmp_path / "models--me--mine" / "blobs"
    snapshot = blobs.with_name("snapshots") / "a1b2"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(model_folder.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert load_folder(snapshot).labels == LABELS


# Labels


NAMES = ["neutral", "it's", 'a "b"', "=", "a => b", "traurig, müde"]


def test_labels_are_as_speechbrain_keeps_them(tmp_path):
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(NAMES, sequence_input=False)
    encoder.save(tmp_path / "theirs.txt")
    write_labels(tmp_path / "ours.txt", NAMES)
    assert read_labels(tmp_path / "theirs.txt", len(NAMES)) == NAMES
    assert read_labels(tmp_path / "ours.txt", len(NAMES)) == NAMES
    ours, theirs = tmp_path / "ours.txt", tmp_path / "theirs.txt"
    ours, theirs = ours.read_text(), theirs.read_text()
    assert ours.split("=====")[0] == theirs.split("=====")[0]
    write_labels(tmp_path / "ours.txt", NAMES[:4])
    again = CategoricalEncoder()
    again.load(tmp_path / "ours.txt")
    assert again.ind2lab == dict(enumerate(NAMES[:4]))


def test_labels_are_in_the_order_of_the_outputs(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("'b' => 1\n'c' => 2\n'a' => 0\n=====\n'x' => 0\n")
    assert read_labels(path, 3) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "contents, message",
    [
        (b"'a' => 0\n'b", "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"a => 0\n", "is damaged"),
        (b"'a' => b\n", "is damaged"),
        (b"", "has 0 names, the model has 2"),
        (b"[] => 0\n'a' => 1\n", "has 1 names"),
        (b"'a' => 0\n'a' => 1\n", "has 1 names"),
        (b"'a' => 0\n'b' => 2\n", "has 1 names"),
        (b"'a' => 0\n'b' => 1\n'c' => 2\n", "has 3 names"),
        (b"'a' => 0\n'b\\n' => 1\n", "control characters"),
        (b"'a' => 0\n'\\x1b[2J' => 1\n", "control characters"),
        (b"'a' => 0\n'\\ud800' => 1\n", "control characters"),
        (b"'a' => 0\n{[]: 1} => 1\n", "is damaged"),
        (b"'a' => 0\n" + b"-" * 10**6 + b"1 => 1\n", "is damaged"),
        (b"'a' => 0\n'b' => 1" + b"0" * 5_000, "has 1 names"),
        (b"x" * 10_000_001, "more than 10000000 bytes"),
    ],
)
def test_labels_that_cannot_be_used(contents, message, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(contents)
    with pytest.raises(ModelFolderError, match=f"labels.txt.*{message}"):
        read_labels(path, 2)


# Replacing a folder


def names(folder):
    return sorted(os.listdir(folder))


def test_folder_takes_the_place_of_another(tmp_path):
    folder = tmp_path / "a"
    with replacing_folder(folder) as unfinished:
        (unfinished / "old.txt").touch()
        assert not folder.exists()
    with replacing_folder(folder) as unfinished:
        (unfinished / "new.txt").touch()
        assert names(folder) == ["old.txt"]
    assert names(folder) == ["new.txt"]
    assert names(tmp_path) == ["a"]


def test_link_to_a_folder_stays_one(tmp_path):
    folder, link = tmp_path / "a", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    with replacing_folder(link) as unfinished:
        (unfinished / "new.txt").touch()
    assert link.is_symlink() and names(folder) == ["new.txt"]


@pytest.mark.parametrize("stuck", ["a", "a.unfinished"])
def test_old_folder_is_whole_if_it_cannot_be_replaced(
    tmp_path, monkeypatch, stuck
):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "old.txt").touch()
    move = Path.replace

    def refuse(path, target):
        if path.name == stuck:
            raise OSError(16, "Device or resource busy")
        return move(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="busy"), replacing_folder(folder) as new:
        (new / "new.txt").touch()
    assert names(tmp_path) == ["a"] and names(folder) == ["old.txt"]


def test_crash_leaves_the_old_folder_and_nothing_else(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as half:
        (half / "new.txt").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"]
    assert names(folder) == []

"""CTC heads of published checkpoints as PPG heads, and their tokens."""

import checkpoints
import pytest
import torch
from checkpoints import D_MODEL, ENGLISH
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor

from qieemo_sb.encoders import pretrained_encoder
from qieemo_sb.errors import TokenError
from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.fusion import CMA, MMF
from qieemo_sb.lobes.ppg import PPGHead, PretrainedPPGHead
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.serving.folder import load_folder, save_model
from qieemo_sb.training.ppg import (
    make_encoder,
    make_transcriber,
    pretrained_transcriber,
)

FAMILIES = ["wav2vec2-base", "wav2vec2-large", "hubert-large", "wavlm-base"]


@pytest.fixture
def save_ctc(tmp_path):
    """Write a small model with a CTC head and its vocabulary."""

    def save(variant="wav2vec2-base", tokens=ENGLISH, size=None, **options):
        model = checkpoints.make_model(
            variant, ctc=True, vocab_size=size or len(tokens)
        )
        folder = checkpoints.save(model, tmp_path)
        checkpoints.save_vocabulary(tmp_path, tokens, **options)
        return model, folder

    return save


def names(folder):
    return pretrained_transcriber(folder).tokens.names


@pytest.mark.parametrize("variant", [*FAMILIES, "wavlm-large", "data2vec"])
def test_ppg_is_that_of_the_checkpoint(sound, save_ctc, variant):
    model, folder = save_ctc(variant)
    signal = sound(16_000)
    values = Wav2Vec2FeatureExtractor()(
        signal.numpy(), sampling_rate=16_000, return_tensors="pt"
    )["input_values"]
    with torch.no_grad():
        theirs = model(values).logits[0]  # [49, 32]
    # Blank, space, apostrophe, a to z; begin, end and unknown left out.
    rows = [ENGLISH.index(t) for t in ["<pad>", "|", *sorted(ENGLISH[5:])]]
    expected = theirs[:, rows].log_softmax(dim=-1)
    encoder = pretrained_encoder(folder)
    encoded = encoder(signal[None], blocks=[3])
    head = pretrained_transcriber(folder).ppg_head
    ppg = head(encoded.hidden_states[3], encoded.lengths)
    assert ppg.shape == (1, 50, 29)
    assert torch.allclose(ppg[0, :49], expected, atol=1e-4)


def test_english_letters_are_our_characters(save_ctc):
    _, folder = save_ctc()
    transcriber = pretrained_transcriber(folder)
    assert transcriber.ppg_head.n_tokens == 29
    assert transcriber.tokens == Characters()


def test_blank_may_stand_anywhere(save_ctc):
    # As fine-tuned models have it, with two rows that nobody uses.
    tokens = ["b", "|", "a", "[UNK]", "[PAD]"]
    model, folder = save_ctc(
        tokens=tokens, size=7, pad_token="[PAD]", unk_token="[UNK]"
    )
    assert names(folder) == ["<blank>", " ", "a", "b"]
    weight = pretrained_transcriber(folder).ppg_head.linear.weight
    assert torch.equal(weight, model.lm_head.weight[[4, 1, 2, 0]])


def test_case_stays_where_it_tells_tokens_apart(save_ctc):
    _, folder = save_ctc(tokens=["<pad>", "s", "S", "T", "|"])
    assert names(folder) == ["<blank>", " ", "S", "T", "s"]


def test_phones_of_several_letters(save_ctc):
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "tʃ", "ɑː", "n", "ə"]
    _, folder = save_ctc(tokens=tokens)
    assert names(folder) == ["<blank>", "n", "tʃ", "ɑː", "ə"]


# Checkpoints with none


def test_own_head_where_there_is_one(save_ctc):
    _, folder = save_ctc(tokens=["<pad>", "|", "a"])
    encoder = make_encoder(folder)
    transcriber = make_transcriber(encoder, encoder_source=folder)
    assert isinstance(transcriber.ppg_head, PretrainedPPGHead)
    assert transcriber.trained and transcriber.ppg_head.n_tokens == 3
    assert transcriber.tokens.encode_as_ids("A b") == [2]


def test_new_head_where_there_is_none(tmp_path):
    model = checkpoints.make_model("wav2vec2-base")
    folder = checkpoints.save(model, tmp_path)
    assert pretrained_transcriber(folder) is None
    transcriber = make_transcriber(make_encoder(folder), encoder_source=folder)
    assert isinstance(transcriber.ppg_head, PPGHead)
    assert transcriber.ppg_head.n_tokens == len(transcriber.tokens) == 29


def test_phones_cannot_be_written_by_hand(save_ctc):
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "tʃ", "ɑː", "n", "ə"]
    phones = pretrained_transcriber(save_ctc(tokens=tokens)[1]).tokens
    assert phones.decode_ids([2, 4]) == "tʃə"
    with pytest.raises(TokenError, match="no letters"):
        phones.encode_as_ids("china")


def test_missing_vocabulary(save_ctc, tmp_path):
    _, folder = save_ctc()
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(ValueError, match="no vocab.json that says"):
        pretrained_transcriber(folder)


def test_missing_blank(save_ctc):
    _, folder = save_ctc(tokens=["a", "b", "|"])
    with pytest.raises(ValueError, match="3 outputs.*the blank '<pad>'"):
        pretrained_transcriber(folder)


def test_missing_weights(save_ctc, tmp_path):
    _, folder = save_ctc()
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    del weights["lm_head.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ValueError, match="lacks the weights of its CTC head"):
        pretrained_transcriber(folder)


def test_head_on_an_adapter(tmp_path):
    model = checkpoints.make_model("wav2vec2-base", ctc=True, add_adapter=True)
    folder = checkpoints.save(model, tmp_path)
    checkpoints.save_vocabulary(tmp_path, ENGLISH)
    with pytest.raises(ValueError, match="transcribes from an adapter"):
        pretrained_transcriber(folder)
    assert pretrained_encoder(folder).n_blocks == 3  # the blocks are there


# In a model folder


@pytest.mark.parametrize(
    "variant", ["wav2vec2-base", "hubert-large", "wavlm-base"]
)
def test_round_trip(sound, save_ctc, make_model, tmp_path, variant):
    _, source = save_ctc(variant, tokens=["<pad>", "|", "A", "B"])
    both = (4, D_MODEL, 12)
    transcriber = pretrained_transcriber(source)
    model = make_model(
        encoder=pretrained_encoder(source),
        mixer=BlockMixer([1, 2], D_MODEL),
        ppg_head=transcriber.ppg_head,
        mmf=MMF(*both),
        cma=CMA(*both, heads=2, ffn=16),
    )
    labels = ["neu", "hap", "ang", "sad"]
    folder = save_model(tmp_path / "b", model, "", labels, transcriber.tokens)
    loaded = load_folder(folder)
    wavs = sound(16_000)[None]
    found = loaded.model.eval()(wavs).log_probs
    assert torch.allclose(found, model(wavs).log_probs, atol=1e-5)
    assert loaded.tokens.names == ["<blank>", " ", "a", "b"]

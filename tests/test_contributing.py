"""CONTRIBUTING's three ways to add something, followed to the letter."""

import json
import re
from pathlib import Path

import pytest
import soundfile
import torch
from clips import RATE, noise, sentence
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)

from qieemo_sb import EncoderClassifier
from qieemo_sb.corpora import named
from qieemo_sb.encoders import ENCODERS
from qieemo_sb.encoders.base import SpeechEncoder
from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import FRAME_HOP, num_frames
from qieemo_sb.lobes.fusion import FUSIONS, Fusion
from qieemo_sb.model import Qieemo, build_model
from qieemo_sb.serving.folder import load_folder, save_model

ROOT = Path(__file__).parents[1]
LABELS = ["calm", "glad", "sad", "upset"]


class Product(Fusion):
    """A new fusion: the product of both streams."""

    def __init__(self, n_tokens, d_model, width):
        super().__init__()
        self.from_ppg = torch.nn.Linear(n_tokens, width)
        self.from_emotional = torch.nn.Linear(d_model, width)

    def forward(self, ppg, emotional, lengths):
        product = self.from_ppg(ppg.exp()) * self.from_emotional(emotional)
        return torch.special.i0e(product)  # which ONNX does not have


class Loudness(SpeechEncoder):
    """A new backbone: two blocks that scale each frame's samples."""

    families = ("loudness",)

    def __init__(self, d_model=FRAME_HOP, trainable_above=None):
        super().__init__(trainable_above)
        self.d_model, self.n_blocks = d_model, 2
        self.gains = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.freeze()

    def frozen_parts(self):
        return [self] if False else []

    def encode(self, wavs, samples, blocks):
        frames = num_frames(samples)
        size = int(frames.max()) * FRAME_HOP
        wavs = torch.nn.functional.pad(wavs, (0, size - wavs.shape[1]))
        x = wavs[:, :size].unflatten(1, (-1, FRAME_HOP))[..., : self.d_model]
        mask = torch.arange(x.shape[1]) < frames[:, None]
        x = x * mask.unsqueeze(-1)
        scales = [1.0, *self.gains.detach()]
        return {k: x * scales[k] for k in blocks}


def speech(seed=0):
    wav = torch.from_numpy(sentence()).float()
    return wav + torch.from_numpy(noise(len(wav) / RATE, seed)).float()


def answers(folder, tmp_path):
    """Log-probabilities of both classes on a folder."""
    ours = EncoderClassifier.from_hparams(folder)
    theirs = SpeechBrainEncoderClassifier.from_hparams(
        str(folder), savedir=str(tmp_path / "speechbrain")
    )
    return [c.classify_batch(speech())[0] for c in (ours, theirs)]


def train(model, steps=30):
    """Train on four loudnesses → loss before and after."""
    wavs = torch.stack([speech(i) * 4.0**i for i in range(4)])
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=0.01)

    def loss():
        log_probs = model(wavs, frame_wise=False).log_probs
        return torch.nn.functional.nll_loss(log_probs, torch.arange(4))

    before = loss().item()
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    model.eval()
    return before, loss().item()


def test_a_fusion_is_a_class_and_a_line(make_model, tmp_path, monkeypatch):
    monkeypatch.setitem(FUSIONS, "Product", Product)
    parts = make_model().config
    size = {k: parts["mmf"][k] for k in ("n_tokens", "d_model", "width")}
    model = make_model(mmf=Product(**size), cma=None)
    before, after = train(model)
    assert after < before
    folder = save_model(tmp_path / "model", model.eval(), "# A card\n", LABELS)
    config = json.loads((folder / "config.json").read_text())
    assert config["mmf"] == {"class": "Product", **size}
    ours, theirs = answers(folder, tmp_path)
    expected = model(speech()[None]).log_probs
    for found in (ours, theirs):
        assert torch.allclose(found, expected, atol=1e-4)

    from qieemo_sb.serving.onnx.export import export_onnx

    with pytest.raises(QieemoError, match="cannot be exported"):
        export_onnx(folder, tmp_path / "exported")


def test_a_backbone_is_a_file_and_a_line(make_model, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "Loudness", Loudness)
    config = make_model().config
    width = config["pooling"]["width"]
    model = build_model(
        {
            "model": "Qieemo",
            "encoder": {"class": "Loudness", "d_model": 16},
            "mixer": {"class": "BlockMixer", "blocks": [1, 2], "d_model": 16},
            "pooling": {"class": "StatisticsPooling", "width": width},
            "classifier": {
                "class": "Classifier",
                "width": 2 * width,
                "n_classes": 4,
            },
        }
    )
    assert isinstance(model, Qieemo)
    train(model)
    folder = save_model(tmp_path / "model", model.eval(), "# A card\n", LABELS)
    assert load_folder(folder).model.config == model.config
    ours, theirs = answers(folder, tmp_path)
    assert torch.allclose(ours, theirs, atol=1e-6)
    beside = torch.stack([speech(), 9 * speech(1)])
    lengths = torch.tensor([8_000, beside.shape[1]])
    alone = model(beside[:1, :8_000]).embedding[0]
    assert torch.allclose(model(beside, lengths).embedding[0], alone, atol=1e-5)


def test_a_corpus_is_an_entry(tmp_path, monkeypatch):
    entry = named.NamedCorpus(
        name="Toy",
        source="Toy is needed: the folder of TALKER_EMOTION.wav.",
        language="en",
        pattern=r"(?P<speaker>[a-z]+)_(?P<emotion>[CU])",
        emotions={"C": "calm", "U": "upset"},
        folds=3,
    )
    monkeypatch.setitem(named.CORPORA, "Toy", entry)
    for speaker in ("ann", "bob", "cem", "dee", "eve", "fay"):
        for code in "CU":
            path = tmp_path / "data" / speaker / f"{speaker}_{code}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sentence(), RATE)
    named.prepare_named("Toy", tmp_path / "data", tmp_path / "out", fold=1)
    parts = {
        split: json.loads((tmp_path / f"out/{split}.json").read_text())
        for split in ("train", "valid", "test")
    }
    assert sum(map(len, parts.values())) == 12
    tested = {entry["spk_id"] for entry in parts["test"].values()}
    trained = {entry["spk_id"] for entry in parts["train"].values()}
    assert tested and trained and not tested & trained


def test_the_layout_in_contributing_is_the_layout():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text.split("## The layout\n")[1].split("\n\n")[0]
    listed = set(re.findall(r"^ +(\w+)/? ", block, re.MULTILINE))
    package = ROOT / "qieemo_sb"
    there = {p.stem for p in package.iterdir() if not p.name.startswith("_")}
    assert listed | {"cli", "py"} == there - {"py.typed"} | {"py"}


@pytest.mark.parametrize("kind", ["*.py", "hparams/*.yaml"])
def test_recipes_share_links_and_no_copies(kind):
    found = (ROOT / "recipes").glob(f"*/qieemo/{kind}")
    files = [path for path in found if not path.is_symlink()]
    texts = [path.read_text(encoding="utf-8") for path in files]
    assert files and len(set(texts)) == len(texts)

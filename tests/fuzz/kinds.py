"""Hostile inputs by kind: how each is drawn, and what is done with it.

What is drawn is plain values, so that an input can be kept as text.
"""

import contextlib
import csv
import functools
import gc
import hashlib
import io
import json
import logging
import os
import re
import shutil
import socket
import struct
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import BufferingHandler
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch
import webvtt
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers
from sounds import encode

from qieemo_sb import EncoderClassifier, OnnxClassifier, audio, cli, load_model
from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.corpora.table import prepare_table
from qieemo_sb.errors import QieemoError, shown
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.model import build_model
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.formats import TIMELINES, format_timeline
from qieemo_sb.serving.results import Prediction

# Or it draws constants of whatever modules are loaded, not always the same, and
# for that loads those that SpeechBrain leaves for later.
providers._get_local_constants = providers.Constants

among = st.sampled_from

WIDTHS = {"n_tokens": 29, "d_model": 16, "width": 12}
DIMS = {"n_mels": 80, "d_model": 16, "n_blocks": 3, "n_heads": 2, "ffn_dim": 32}
TOY = {
    "model": "Qieemo",
    "encoder": {"class": "WhisperEncoder", "dims": DIMS},
    "mixer": {"class": "BlockMixer", "blocks": [1, 2], "d_model": 16},
    "ppg_head": {"class": "PPGHead", "d_model": 16, "n_tokens": 29},
    "mmf": {"class": "MMF", **WIDTHS},
    "cma": {"class": "CMA", **WIDTHS, "heads": 2, "ffn": 16},
    "pooling": {"class": "AttentiveStatisticsPooling", "width": 12},
    "classifier": {"class": "Classifier", "width": 24, "n_classes": 4},
}
LABELS = ["neu", "hap", "ang", "sad"]


class Home:
    """A small model on each engine, and a place for files.

    Arguments
    ---------
    folder : Path
        Where ``make_models`` wrote.
    """

    def __init__(self, folder):
        self.model, self.export = folder / "model", folder / "export"
        self.place = Path(tempfile.mkdtemp(dir=folder))
        self.torch = load_model(self.model)
        self.speechbrain = EncoderClassifier.from_hparams(self.model)
        self.onnx = OnnxClassifier.from_folder(self.export, threads=1)
        self.stack = contextlib.ExitStack()
        self.data = self.place / "data"
        self.data.mkdir()
        for name in "abcdef":
            path = self.data / f"{name}.wav"
            soundfile.write(path, samples("noise", [8_000]), 16_000)

    @functools.cached_property
    def server(self):
        return Served(self)

    def fresh(self, name="x"):
        """A path where nothing is."""
        path = self.place / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return path


def save_toy(folder):
    """Write a small model."""
    torch.manual_seed(0)
    model = build_model(TOY).eval()
    torch.nn.init.normal_(model.classifier.linear.weight, std=0.3)
    return save_model(folder, model, "# A card\n", LABELS, Characters())


def make_models(folder, export=None):
    """Write a small model, and its export or a copy of one, for ``Home``."""
    from qieemo_sb.serving.onnx.export import export_onnx

    save_toy(folder / "model")
    if export is None:
        export_onnx(folder / "model", folder / "export")
    else:
        shutil.copytree(export, folder / "export")
    return folder


# -- Ingredients -----------------------------------------------------------

ODD = sorted(
    {sign * (2**k + d) for k in (0, 8, 15, 16, 31, 32, 63)
     for d in (-1, 0, 1) for sign in (1, -1)} | {3, 44, 400, 1_000, 48_000}
)  # fmt: skip
FLOATS = "0 -1 0.1 0.5 1 3 30 31 1e9 1e308 nan inf -inf 1e-9".split()
CONTENTS = "noise silence loud louder nan inf nan_at_end".split()
TEXTS = [
    *("", " ", "a", "sad", "a.wav", "{data_root}/a.wav", "../a.wav", "/x"),
    *("\n", "\t", "\0", "\x1b[31m", "\x85", "\u2028", "\ud800", "\udcff"),
    *("é", "٣", "'", '"', ">", "-->", "<v x>", ";", ",", "=>", "a\nb\tc"),
    *("x" * 300, "NaN", "1e999", "train", "-", "*", "[", "**/*"),
]
texts = st.lists(among(TEXTS), max_size=3).map("".join)
numbers = among(ODD) | st.integers(-9, 10**6)
# What happens to a file's bytes: where, how many go, and what comes instead.
new = st.tuples(numbers, among([2, 4, 8]), among(["little", "big"]))
changes = st.lists(
    st.tuples(
        st.integers(0, 128) | st.integers(0, 10**6),
        among([0, 1, 2, 4, 8, 1_000, 10**9]),
        st.binary(max_size=4)
        | new.map(lambda x: (x[0] % 256 ** x[1]).to_bytes(*x[1:])),
    ),
    max_size=4,
)
plain = among([None, True, 0.5, "@deep", "@digits", "@nan"])
json_values = st.recursive(
    plain | numbers | texts,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(texts, x, max_size=3),
    max_leaves=4,
)
# What happens to the values in a JSON file: which, and what it becomes.
json_changes = st.lists(
    st.tuples(st.integers(0, 99), st.just("@gone") | json_values), max_size=3
)
places = among("link gone empty folder fifo zero loop sparse".split())


def samples(content, shape, dtype="float32"):
    """Samples of a kind."""
    x = np.asarray(np.random.default_rng(0).standard_normal(shape) / 10)
    x *= {"silence": 0, "loud": 1e14, "louder": 1e17}.get(content, 1)
    if content in ("nan", "inf"):
        x[...] = float(content)
    elif content == "nan_at_end" and x.size:
        x.flat[-1] = np.nan
    with np.errstate(all="ignore"):
        return (x if "float" in dtype else x * 2**15).astype(dtype)


def changed(data, changes):
    """Bytes after changes."""
    for place, gone, new in changes:
        place %= len(data) + 1
        data = data[:place] + new + data[place + gone :]
    return data


def odd(most=4, **facts):
    """Values as usual, but for some: each fact is (usual, strategy)."""
    usual = {name: value for name, (value, _) in facts.items()}
    others = [st.tuples(st.just(n), x) for n, (_, x) in facts.items()]
    return st.lists(st.one_of(others), max_size=most).map(
        lambda found: {**usual, **dict(found)}
    )


def encoded(text):
    """Bytes of a text that may be none."""
    return text.encode("utf-8", "surrogatepass")


def changed_json(values, changes):
    """JSON as bytes after changes of its values."""
    values = json.loads(json.dumps(values))
    for which, new in changes:
        places, queue = [], [values]
        while queue:
            here = queue.pop()
            keys = here if isinstance(here, dict) else range(len(here))
            places += [(here, key) for key in keys]
            queue += [here[k] for k in keys if isinstance(here[k], dict | list)]
        if places:
            here, key = places[which % len(places)]
            here[key] = new
            if new == "@gone":
                del here[key]
    text = json.dumps(values).replace('"@nan"', "NaN")
    text = text.replace('"@deep"', "[" * 100_000 + "]" * 100_000)
    return encoded(text.replace('"@digits"', "9" * 5_000))


def put(path, data, place="file"):
    """Write bytes to a path, or put something else in their place."""
    path.unlink(missing_ok=True)
    target = path.with_name("elsewhere")
    if place in ("file", "sparse", "empty"):
        path.write_bytes(b"" if place == "empty" else data)
        if place == "sparse":
            os.truncate(path, 2**25)
    elif place == "link":
        target.write_bytes(data)
        path.symlink_to(target)
    elif place == "folder":
        path.mkdir()
    elif place == "fifo":
        os.mkfifo(path)
    elif place != "gone":
        path.symlink_to({"zero": "/dev/zero", "loop": path}[place])


# -- Audio -----------------------------------------------------------------

CODECS = {"m4a": "aac", "mp4": "aac", "webm": "libopus"}
CODECS |= {"mka": "flac", "wma": "wmav2", "3gp": "aac"}
SOUNDFILE = [
    (kind, subtype)
    for kind in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(kind)
    if kind != "RAW" and soundfile.check_format(kind, subtype)
]
WAV = "WAV", "PCM_16"
audio_files = odd(
    format=(WAV, among([*SOUNDFILE, *CODECS.items()])),
    rate=(16_000, among([8_000, 44_100, 48_000])),
    channels=(1, st.just(2)),
    size=(8_000, among([0, 1, 399, 400, 16_000])),
    content=("noise", among(CONTENTS)),
    changes=([], changes),
    place=("file", places),
    name=("x.wav", among(["x.raw", "x", "x\n\x1b.mp3"])),
    call=(
        "torch",
        among("onnx read timeline embed transcribe survey adapt".split()),
    ),
)


@functools.lru_cache(maxsize=500)
def audio_bytes(form, rate, channels, size, content):
    """An audio file; an empty one if the format has no such."""
    x = samples(content, [size, channels])
    if form[1] not in ("FLOAT", "DOUBLE"):  # or some encoders abort
        x = np.nan_to_num(x).clip(-1, 1)
    with contextlib.suppress(Exception), tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"a.{form[0]}"
        if form in CODECS.items():
            encode(path, x[:, 0], rate, form[1], channels)
        else:
            soundfile.write(path, x, rate, format=form[0], subtype=form[1])
        return path.read_bytes()
    return b""


def try_audio(x, home):
    path = home.fresh(x["name"])
    facts = [x[k] for k in ("format", "rate", "channels", "size", "content")]
    put(path, changed(audio_bytes(*facts), x["changes"]), x["place"])
    audio.audio_seconds(path)
    calls = {
        "torch": home.torch,
        "onnx": home.onnx,
        "read": audio.read_audio,
        "timeline": home.torch.timeline,
        "embed": home.torch.embed_file,
        "transcribe": home.torch.transcribe_file,
        "survey": lambda path: audio.survey([path]) and None,
        "adapt": lambda path: home.torch.adapt([path, path]).mean,
    }
    return calls[x["call"]](path)


# -- Batches ---------------------------------------------------------------

sizes = among([0, 1, 2, 3, 399, 400, 401, 1_600, 8_000])
shapes = st.lists(sizes, max_size=3).filter(
    lambda shape: np.prod([max(1, n) for n in shape], dtype=float) < 40_000
)
DTYPES = "float64 float16 int16 int64 bool complex64 object".split()
CALLS = "encode transcribe ppg onnx onnx_one analyse embed call dict \
conversation".split()
lengths = st.tuples(
    among(["tensor", "array", "list"]),
    st.lists(
        among([1, 1, 0.5, 0, -1, 2, 400, 8_000, "nan", None]),
        max_size=4,
    ),
)
batches = odd(
    call=("classify", among(CALLS)),
    form=("tensor", among("array list rows text".split())),
    dtype=("float32", among(DTYPES)),
    shape=([2, 8_000], shapes),
    content=("noise", among(CONTENTS)),
    lengths=(None, lengths),
    rate=(
        16_000,
        among([8_000, 44_100, "8000", None, 1.5, "nan"]) | numbers,
    ),
)


def given(form, values):
    """Values in the form in which somebody gives them."""
    if form == "tensor":
        return torch.as_tensor(values)
    if form == "text":
        return "not samples"
    return {"array": lambda x: x, "rows": list}.get(form, np.ndarray.tolist)(
        np.asarray(values)
    )


def try_batch(x, home):
    try:
        wavs = given(x["form"], samples(x["content"], x["shape"], x["dtype"]))
        lengths = x["lengths"]
        if lengths is not None:
            values = [float(v) if v == "nan" else v for v in lengths[1]]
            lengths = given(lengths[0], values)
    except (TypeError, RuntimeError):  # torch has no such tensor
        return None
    rate = float("nan") if x["rate"] == "nan" else x["rate"]
    source = {"array": wavs, "sampling_rate": rate}
    one = {
        "onnx_one": home.onnx.analyse,
        "call": home.torch,
        "dict": lambda _: home.torch(source),
        "conversation": lambda x: list(
            home.torch.predict_conversation(x, ["Ann", "Bob"])
        ),
    }
    if x["call"] in one:
        return one[x["call"]](wavs)
    engine = {"analyse": home.torch, "embed": home.torch, "onnx": home.onnx}
    name = "classify" if x["call"] == "onnx" else x["call"]
    batch = getattr(engine.get(x["call"], home.speechbrain), f"{name}_batch")
    return batch(wavs, lengths)


# -- Model folders and exports ---------------------------------------------

EXPORT = ["model.onnx", "model.onnx.data", "label_encoder.txt"]
MODEL = ["model.safetensors", "label_encoder.txt", "tokens.json"]


def folders(facts, files):
    """What becomes of one file; of its checksum, if it is signed."""
    return odd(
        file=(facts, among(files)),
        changes=([], changes),
        json=([], json_changes),
        labels=(None, st.lists(texts, min_size=4, max_size=4)),
        place=("file", places),
        signed=(False, st.just(True)),
    )


def forge(source, folder, x):
    """Copy a folder with changes → True if a file is not as it was signed."""
    shutil.copytree(source, folder)
    path = folder / x["file"]
    data = path.read_bytes()
    if path.suffix == ".json" and x["json"]:
        data = changed_json(json.loads(data), x["json"])
    if path.name == "label_encoder.txt" and x["labels"]:
        lines = [f"{t!r} => {i}\n" for i, t in enumerate(x["labels"])]
        data = encoded("".join(lines))
    put(path, changed(data, x["changes"]), x["place"])
    torn = not path.is_file() or path.stat().st_size > 2**24
    torn = torn or path.read_bytes() != (source / x["file"]).read_bytes()
    (facts,) = set(source.glob("*.json")) - {source / "tokens.json"}
    if x["signed"] and not torn and path.name != facts.name:
        values = json.loads(facts.read_text())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        values["sha256"][path.name] = digest
        (folder / facts.name).write_text(json.dumps(values))
        return False
    return torn and path.name != facts.name


def try_folder(load, source, x, home):
    folder = home.fresh("folder")
    torn = forge(source, folder, x)
    found = load(folder)(samples("noise", [8_000]))
    assert not torn, f"{x['file']} is not that of the checksums"
    return found


# -- Corpora and turns -----------------------------------------------------


def utterance(name):
    facts = {"emo": "sad", "length": 0.5, "spk_id": name, "wrd": "a"}
    return {"wav": f"{{data_root}}/{name}.wav", **facts}


cells = texts | among([f"{name}.wav" for name in "abcdef"])
manifests = odd(
    part=(0, st.integers(1, 2)), json=([], json_changes), changes=([], changes)
)
tables = odd(
    header=("path,label,speaker", texts),
    rows=([], st.lists(st.lists(cells, max_size=5), max_size=5)),
    changes=([], changes),
)
turn = st.tuples(
    among(["SPEAKER", "SPEAKER", "SPKR-INFO"]),
    among([*FLOATS, "0.1", "1_0", "٣", "x"]),
    among([*FLOATS, "0.2", "0.01"]),
    texts,
)
turns = odd(
    lines=([("SPEAKER", "0", "0.4", "Ann")], st.lists(turn, max_size=4)),
    changes=([], changes),
    place=("file", places),
)


def try_manifest(x, home):
    files = [home.fresh(f"{i}.json") for i in range(3)]
    for i, (path, names) in enumerate(
        zip(files, ("ab", "cd", "ef"), strict=True)
    ):
        y = x if i == x["part"] else {"json": [], "changes": []}
        values = {name: utterance(name) for name in names}
        path.write_bytes(changed(changed_json(values, y["json"]), y["changes"]))
    prepare(home, None, *files)


def try_table(x, home):
    out = io.StringIO()
    csv.writer(out).writerows(
        [[f"{a}.wav", "sad", a] for a in "abcdef"] + x["rows"]
    )
    path = home.fresh("a.csv")
    data = encoded(f"{x['header']}\n{out.getvalue()}")
    path.write_bytes(changed(data, x["changes"]))
    prepare(home, path)


def prepare(home, *files):
    """Prepare a corpus; what was written can be read."""
    out = home.fresh("out")
    prepare_table(out, home.data, *files)
    for part in ("train", "valid", "test"):
        read_manifest(out / f"{part}.json")


def try_turns(x, home):
    path = home.fresh("a.rttm")
    lines = [
        f"{kind} file 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n"
        for kind, start, length, who in x["lines"]
    ]
    data = encoded("".join(lines))
    put(path, changed(data, x["changes"]), x["place"])
    return home.torch.timeline(home.data / "a.wav", path)


# -- Streams, results, commands --------------------------------------------

chunk = st.tuples(
    among(["array", "array", "tensor", "list"]),
    among(["float32"] * 9 + DTYPES),
    st.just([8_000]) | st.tuples(sizes) | shapes,
    among(["noise"] * 9 + CONTENTS),
)
streams = odd(
    engine=("torch", st.just("onnx")),
    rate=(16_000, among([8_000, 44_100, *ODD[-9:]])),
    interval=("1", among(FLOATS)),
    span=("1", among(FLOATS)),
    chunks=(
        [("array", "float32", [8_000], "noise")] * 3,
        st.lists(chunk, max_size=5),
    ),
)
predictions = st.tuples(
    among(list(TIMELINES)),
    st.lists(
        st.tuples(texts, texts | st.none(), st.integers(0, 10**7)), max_size=3
    ),
)
OPTIONS = "--scores --same-speaker --format=csv --format=json --format=jsonl \
--format=x --unknown-below=2 --unknown-below=nan --unknown-below=0.9 --output \
--timeline=rttm --timeline=json --timeline=textgrid --timeline=webvtt --turns \
--device=x --device=cuda --model=opne --model --x".split()
commands = st.tuples(
    among(["predict"] * 5 + ["info", "export", "models", "plot"]),
    st.lists(
        among(["data", "data/a.wav", "data/*.wav", "model", "export"])
        | among(OPTIONS)
        | texts,
        max_size=4,
    ),
    texts,
)


def try_stream(x, home):
    options = {key: float(x[key]) for key in ("interval", "span")}
    stream = getattr(home, x["engine"]).stream(x["rate"], **options)
    chunks = [
        given(form, samples(content, shape, dtype))
        for form, dtype, shape, content in x["chunks"]
        if not (form == "tensor" and dtype == "object")
    ]
    return list(stream.predict(chunks))


def try_format(x, home):
    kind, facts = x
    rows = [
        Prediction(file, i, i + ms / 1e3, "sad", {"sad": 1.0}, speaker)
        for i, (file, speaker, ms) in enumerate(facts)
    ]
    text, n = format_timeline(rows, kind), len(rows)
    assert "\x1b" not in text and "\0" not in text, "escapes of a terminal"
    if kind == "rttm":
        lines = text.splitlines()
        assert len(lines) == n and all(len(s.split()) == 10 for s in lines)
    elif kind == "csv":
        lines = list(csv.reader(io.StringIO(text, newline="")))
        assert len(lines) == (n and n + 1), "more or fewer rows"
        assert all(len(line) == len(lines[0]) for line in lines)
    elif kind in ("json", "jsonl"):
        found = json.loads(text) if kind == "json" else text.splitlines()
        assert len(found) == n
    elif kind == "webvtt":
        assert text.count("-->") == n, "more or fewer captions"
        assert len(webvtt.from_string(text)) == n
    else:
        tiers = {shown(r.speaker or "emotion") for r in rows}
        assert text.count("\n        class =") == max(1, len(tiers))


def try_command(x, home):
    name, arguments, listed = x
    where = {"data": home.data, "model": home.model, "export": home.export}
    given = []
    for argument in arguments:
        first, _, rest = argument.partition("/")
        given.append(str(where[first] / rest) if first in where else argument)
        if argument in ("--output", "--turns"):
            given.append(str(home.fresh("out.txt")))
        given += [str(home.model)] * (argument == "--model")
    if name == "predict" and not any("--model" in a for a in arguments):
        given += ["--model", str(home.model)]
    if name == "export":
        given = given[:1]  # one takes many seconds
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    before = os.getcwd()
    os.chdir(home.data)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "stdin", io.StringIO(listed)),
        ):
            code = cli.main([name, *given])
    except SystemExit as end:  # argparse's
        code = end.code
    finally:
        os.chdir(before)
    printed, said = (
        x.buffer.getvalue().decode(errors="surrogateescape") for x in (out, err)
    )
    assert code in (0, 1, 2) and bool(code) == bool(said), (code, said)
    if code != 2:  # argparse repeats what somebody typed
        assert "\x1b" not in printed + said, "escapes of a terminal"
    if code:
        raise QieemoError(said)


# -- The server ------------------------------------------------------------

LIMITS = {"megabytes": 0.2, "minutes": 0.6, "waiting": 4, "streams": 4}
LIMITS |= {"receive_seconds": 0.15, "idle_seconds": 0.15}
FORM = "multipart/form-data; boundary=x"
UPGRADE = {"host": "x", "connection": "upgrade", "upgrade": "websocket"}
UPGRADE |= {"sec-websocket-version": "13", "sec-websocket-key": 22 * "A" + "=="}
KEYS = "expect content-type content-length transfer-encoding".split()
VALUES = "multipart/form-data application/json chunked gzip h2c 100-continue \
keep-alive close permessage-deflate 0 9".split()
names = among(["file", "file", "a.mp3"]) | texts
RECORDINGS = [
    *([form, 16_000, 1, size, "noise"] for form in ("WAV", "FLAC")
      for size in (399, 8_000, 8_000, 40_000)),
    *(["FLAC", 8_000, 1, size, "silence"] for size in (260_000, 300_000)),
]  # fmt: skip
ROUTES = {
    "stream": "GET /v1/stream",
    "file": "POST /v1/emotions",
    "segments": "POST /v1/emotions?timeline=true",
    "others": "GET /v1/emotions",
    "page": "GET /docs",
    "odd": "X /%ff?timeline=\0",
}
FRAMES = 0, 1, 2, 0x80, 0x81, 0x83, 0x88, 0x89, 0x8A, 0xC2
frame = st.tuples(
    among([0x82] * 9) | among(FRAMES),
    among([64_000] * 6 + [0, 4, 125, 126, 127, 2**17]),
)
charsets = among("utf-16 unicode_escape hex undefined".split())
keys = among([*KEYS, *UPGRADE])
caller = odd(
    most=2,
    headers=({}, st.dictionaries(keys, among(VALUES) | texts, max_size=2)),
    charset=("utf-8", charsets),
    lie=(0, among([-400, -1, 1, 10**5]) | numbers),
    names=(("file", "\\ud800.wav"), st.tuples(names, names)),
    recording=(RECORDINGS[1], among(RECORDINGS)),
    start=([], json_changes),
    chunks=([(0x82, 32_000)] * 2, st.lists(frame, max_size=5)),
    end=("end", among(["stop", "\udcff"])),
    changes=([], changes),
    pieces=(1, among([2, 3, 50])),
    seconds=(0, among([0.05, 0.2])),
    goes=("late", among(["early", "rudely"])),
)
routes = among([*["stream", "file", "segments"] * 3, *ROUTES])
callers = st.lists(st.tuples(routes, caller), min_size=1, max_size=8)
CLOSED = b"\x88\x02\x03"  # a websocket, by the server


def request(route, x):
    """Head and body of what a caller sends."""
    if route == "stream":
        start = {"rate": 16_000, "format": "int16", "interval": 0.5, "span": 1}
        sound = samples("noise", [2**16], "int16").tobytes()
        messages = [
            (0x81, changed_json(start, x["start"])),
            *((kind, sound[:size]) for kind, size in x["chunks"]),
            (0x81, encoded(x["end"])),
        ]
        body = b"".join(  # masked with zeros
            struct.pack(">BBQ4x", kind, 255, len(data)) + data
            for kind, data in messages
        )
        headers = UPGRADE
    else:
        form, *facts = x["recording"]
        body = (
            b'--x\r\nContent-Disposition: form-data; name="%b"; filename="%b"'
            b"\r\n\r\n%b\r\n--x--\r\n"
        ) % (*map(encoded, x["names"]), audio_bytes((form, "PCM_16"), *facts))
        headers = {"host": "x", "connection": "close"}
        headers["content-type"] = f"{FORM}; charset={x['charset']}"
        headers["content-length"] = len(body) + x["lie"]
    headers = {**headers, **x["headers"]}.items()
    lines = [f"{ROUTES[route]} HTTP/1.1", *(f"{k}: {v}" for k, v in headers)]
    return encoded("\r\n".join([*lines, "", ""])), changed(body, x["changes"])


def call(address, caller):
    """Call a server → all that it says."""
    route, x = caller
    head, body = request(route, x)
    size = len(body) // x["pieces"] + 1
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    pauses = [x["seconds"] / x["pieces"]] * len(pieces)
    if headed := route == "stream":
        pieces, pauses = [head, *pieces], [0.3, *pauses]
    heard = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(address, 1) as there,
    ):
        if not headed:
            there.sendall(head)
        for piece, pause in zip(pieces, pauses, strict=True):
            there.settimeout(1)
            there.sendall(piece)
            there.settimeout(pause)  # or until it answers
            with contextlib.suppress(TimeoutError, BlockingIOError):
                heard += there.recv(2**16)
        there.settimeout(0.3)
        data = True
        while x["goes"] == "late" and data and CLOSED not in heard:
            heard += (data := there.recv(2**16))
        if x["goes"] == "rudely":
            linger = struct.pack("ii", 1, 0)
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    return heard


class Served:
    """A server of the small model, with small limits; see ``running``."""

    def __init__(self, home):
        from servers import running

        from qieemo_sb.serving.server.app import create_app
        from qieemo_sb.serving.server.command import LARGEST_MESSAGE
        from qieemo_sb.serving.server.limits import Limits

        app = create_app(load_model(home.model), Limits(**LIMITS))
        options = {"ws_max_size": LARGEST_MESSAGE, "log_config": None}
        self.client = home.stack.enter_context(running(app, **options))
        self.temporary = home.place / "temporary"
        self.temporary.mkdir()
        self.log = BufferingHandler(10**6)
        # Uvicorn calls some of what callers do errors, and deals with it.
        self.log.addFilter(
            lambda x: x.name == "asyncio" or "in ASGI application" in x.msg
        )
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).setLevel("ERROR")
            logging.getLogger(name).addHandler(self.log)

    def left(self):
        """What is in work, on disk and open."""
        assert self.client.get("/health", timeout=10).status_code == 200
        text = self.client.get("/metrics").text
        busy = "^qieemo_(?:recordings|streams) (?!0.0).*"
        found = re.findall(busy, text, re.M) + os.listdir(self.temporary)
        return found, len(os.listdir("/proc/self/fd"))

    def check(self, before):
        """Check that soon no more is left than before."""
        end = time.monotonic() + 10
        while (after := self.left())[0] or after[1] > before[1]:
            assert time.monotonic() < end, f"left: {after}, before: {before}"
            gc.collect()
            time.sleep(0.01)
        for record in self.log.buffer:
            error = record.exc_info and record.exc_info[1]
            self.log.buffer = []
            if error and not isinstance(error, QieemoError):
                raise error
            raise AssertionError(record.getMessage()) from error


def try_server(x, home):
    server = home.server
    url = server.client.base_url
    with (
        mock.patch.object(tempfile, "tempdir", str(server.temporary)),
        ThreadPoolExecutor(len(x)) as pool,
    ):
        before = server.left()
        heard = list(pool.map(functools.partial(call, (url.host, url.port)), x))
        server.check(before)
    statuses = [s for h in heard for s in re.findall(rb"HTTP/1\.1 (\d+)", h)]
    assert all(s < b"500" or s == b"501" for s in statuses), statuses
    if not any(b'"emotion"' in h for h in heard):
        raise QieemoError("No answer")


def load_torch(x, home):
    return try_folder(load_model, home.model, x, home)


def load_onnx(x, home):
    return try_folder(OnnxClassifier.from_folder, home.export, x, home)


KINDS = {
    "audio": (audio_files, try_audio),
    "batch": (batches, try_batch),
    "model": (folders("config.json", MODEL), load_torch),
    "export": (folders("export.json", EXPORT), load_onnx),
    "manifest": (manifests, try_manifest),
    "table": (tables, try_table),
    "turns": (turns, try_turns),
    "stream": (streams, try_stream),
    "format": (predictions, try_format),
    "command": (commands, try_command),
    "server": (callers, try_server),
}


def attempt(kind, value, home):
    """Try an input → "answered" or "clear error"; raises anything else."""
    try:
        found = KINDS[kind][1](value, home)
    except QieemoError:
        return "clear error"
    for x in leaves(found):
        assert np.isfinite(x).all(), "an answer that is not finite"
    return "answered"


def leaves(value):
    """All numbers in an answer, as arrays."""
    if torch.is_tensor(value):
        value = value.detach().float().numpy()
    if isinstance(value, np.ndarray | float):
        yield np.asarray(value)
    elif isinstance(value, dict):
        yield from leaves(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif hasattr(value, "__dict__"):
        yield from leaves(vars(value))

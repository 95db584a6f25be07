"""Results as values, tables, tiers and captions."""

import csv
import io
import json

import pandas
import pytest
import webvtt
from praatio.utilities.textgrid_io import parseTextgridStr

from qieemo_sb.errors import AudioError, QieemoError
from qieemo_sb.serving import formats
from qieemo_sb.serving.batch import find_files, output, write_predictions
from qieemo_sb.serving.results import Prediction


@pytest.fixture
def segments():
    def segment(start, end, emotion, speaker=None):
        scores = dict.fromkeys(("happy", "sad"), 0.25) | {emotion: 0.75}
        return Prediction("a b.wav", start, end, emotion, scores, speaker)

    return [segment(0.1, 1.5, "happy", "ann"), segment(1.4, 3, "sad", "bob")]


def test_plain_values(segments):
    values = json.loads(json.dumps(segments[0].to_dict()))
    assert Prediction(**values) == segments[0]
    table = pandas.DataFrame(p.to_row() for p in segments)
    assert table["happy"].tolist() == [0.75, 0.25]
    assert table["speaker"].tolist() == ["ann", "bob"]
    assert str(segments[1]) == "a b.wav 1.40-3.00 s: bob, sad 0.75"


def test_json_and_csv_hold_all(segments):
    for kind, lines in (("json", json.loads), ("jsonl", str.splitlines)):
        rows = lines(formats.format_timeline(segments, kind))
        rows = [json.loads(x) if isinstance(x, str) else x for x in rows]
        assert [Prediction(**row) for row in rows] == segments
    text = formats.format_timeline(segments, "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["sad"]) for row in rows] == [0.25, 0.75]
    assert json.loads(formats.format_timeline([], "json")) == []


def test_rttm_says_who_and_how(segments):
    segments[1].speaker = None
    lines = formats.format_timeline(segments, "rttm").splitlines()
    assert [line.split() for line in lines] == [
        "SPEAKER a_b 1 0.100 1.400 <NA> <NA> ann:happy 0.750 <NA>".split(),
        "SPEAKER a_b 1 1.400 1.600 <NA> <NA> sad 0.750 <NA>".split(),
    ]


def test_a_tier_for_each_speaker(segments):
    segments[1].speaker = "ann"  # and overlaps, which a tier cannot
    text = formats.format_timeline(segments, "textgrid")
    (tier,) = parseTextgridStr(text, includeEmptyIntervals=False)["tiers"]
    assert tier["name"] == "ann"
    intervals = [(float(a), float(b), x) for a, b, x in tier["entries"]]
    assert intervals == [(0.1, 1.5, "happy"), (1.5, 3, "sad")]


def test_captions(segments):
    segments[1].end = 3_661.5  # more than an hour
    text = formats.format_timeline(segments, "webvtt")
    first, second = webvtt.from_string(text)
    assert (first.start, first.text) == ("00:00:00.100", "happy 0.75")
    assert (second.end, second.voice) == ("01:01:01.500", "bob")


def test_other_formats_are_refused(segments):
    with pytest.raises(QieemoError, match="no format 'srt'.*webvtt"):
        formats.format_timeline(segments, "srt")


def test_a_name_forges_no_line(segments):
    segments[0].file = "a.wav\tsad\t1.0\nb\x1b[31m.wav"
    (line,) = formats.lines(segments[:1], "table")
    assert line.count("\n") == 1
    (rows,) = formats.lines(segments[:1], "csv")
    assert "\x1b" not in rows and "\\n" in rows


@pytest.mark.parametrize("kind", ["csv", "rttm", "textgrid", "webvtt"])
def test_neither_does_a_speaker(kind, segments):
    expected = formats.format_timeline(segments, kind)
    for segment in segments:
        segment.speaker = "a\nb\x1b[31m--><v x>"
    text = formats.format_timeline(segments, kind)
    assert "\x1b" not in text and "\nb" not in text
    assert text.count("-->") == (
        len(segments) if kind == "webvtt" else text.count("--><v")
    )
    if kind in ("csv", "rttm"):
        assert len(text.splitlines()) == len(expected.splitlines())


@pytest.mark.parametrize("kind", ["table", "csv", "json", "jsonl"])
def test_errors_stand_apart(kind, segments):
    out, error = io.StringIO(), AudioError("gone", "gone.wav")
    results = [error, segments[0], error, segments[1]]
    assert write_predictions(results, out, kind) == [error, error]
    assert out.getvalue() == "".join(formats.lines(segments, kind))


def test_files_by_name_folder_pattern_and_list(tmp_path):
    for name in ("b/2.m4a", "b/c/1.WAV", "a.flac", "b/notes.txt", "b/._2.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    odd = str(tmp_path / "-a.xyz")  # named: taken, whatever it is
    names = [odd, str(tmp_path / "b"), "-", str(tmp_path / "**/*.[fW]*")]
    found = find_files(names, io.StringIO("x y.wav\n\nz.wav\n"))
    expected = ["-a.xyz", "b/2.m4a", "b/c/1.WAV", "x y.wav", "z.wav", "a.flac"]
    assert [f.removeprefix(f"{tmp_path}/") for f in found] == expected
    for nothing, message in (
        (str(tmp_path / "*.mp3"), "No file matches"),
        (str(tmp_path / "b/c/none/.."), "has no audio file"),
    ):
        (tmp_path / "b/c/none").mkdir(exist_ok=True)
        (tmp_path / "b/c/1.WAV").unlink(missing_ok=True)
        with pytest.raises(QieemoError, match=message):
            find_files([nothing])
    with pytest.raises(QieemoError, match="No audio file"):
        find_files(["-"], io.StringIO(""))


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "out.csv"
    with pytest.raises(KeyboardInterrupt), output(path) as out:
        out.write("half")
        raise KeyboardInterrupt
    assert not path.exists()
    assert (tmp_path / "new/out.csv.partial").read_text() == "half"
    with output(path) as out:
        out.write("caf\udce9")  # a name that is no text
    assert path.read_bytes() == b"caf\xe9"
    assert [p.name for p in path.parent.iterdir()] == ["out.csv"]

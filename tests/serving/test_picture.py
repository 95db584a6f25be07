"""Pictures of timelines, by what is drawn where."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from qieemo_sb.cli import main
from qieemo_sb.errors import AudioError
from qieemo_sb.serving.picture import (
    SILENCE,
    emotion_colours,
    timeline_picture,
)
from qieemo_sb.serving.results import Prediction

RATE = 1_000  # any will do, and this is quick


def segment(start, end, emotion, speaker=None):
    scores = {"happy": 0.3, "sad": 0.3, "neutral": 0.3, emotion: 0.5}
    return Prediction("a.wav", start, end, emotion, scores, speaker)


def drawn(axes):
    """(colour, start, end) of the waveform's parts, then of the bands."""
    return [
        (to_hex(area.get_facecolor()), box.x0, box.x1)
        for area in axes.collections
        for box in (path.get_extents() for path in area.get_paths())
    ]


def texts(labels):
    return [label.get_text() for label in labels]


def test_colours_tell_emotions_apart():
    colours = emotion_colours(["disgust", "disappointed", "ang", "calm", "x"])
    assert len({*colours.values()}) == 5
    assert emotion_colours(["angry"])["angry"] == colours["ang"]


@pytest.mark.parametrize(
    ("seconds", "rows", "first", "last"),
    [
        (0.5, 1, ["0:00.0", "0:00.1", "0:00.2"], "0:00.5"),
        (60, 1, ["0:00", "0:05", "0:10"], "1:00"),
        (61, 2, ["0:00", "0:05", "0:10"], "1:00"),
        (3600, 12, ["0:00", "0:30", "1:00"], "1:00:00"),
    ],
)
def test_a_long_file_has_rows(write_wav, seconds, rows, first, last):
    path = write_wav(np.full(int(seconds * RATE), 0.1), RATE)
    axes = timeline_picture(path, []).axes
    assert len(axes) == rows
    assert texts(axes[0].get_xticklabels())[:3] == first
    assert texts(axes[-1].get_xticklabels())[-1] == last


def test_a_segment_is_in_the_rows_that_it_spans(write_wav):
    path = write_wav(np.full(90 * RATE, 0.1), RATE)
    segments = [segment(10, 20, "sad", "ann"), segment(50, 70, "happy", "bob")]
    figure = timeline_picture(path, segments)
    above, below = figure.axes
    colours = emotion_colours(segments[0].scores)
    sad, happy = colours["sad"], colours["happy"]
    assert drawn(above) == [
        (SILENCE, 0, 60),
        *[(sad, 10, 20), (happy, 50, 60)] * 2,
    ]
    assert drawn(below) == [(SILENCE, 60, 90), *[(happy, 60, 70)] * 2]
    assert texts(above.get_yticklabels()) == ["ann", "bob"]
    assert texts(below.texts) == ["happy"]
    legend = texts(figure.legends[0].get_texts())
    assert legend == ["happy", "sad", "no speech"]


def test_pictures_by_the_command(model_folder, write_wav, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_wav(0.1 * np.random.default_rng(0).normal(size=RATE), name="in/a.wav")
    (tmp_path / "in/b.wav").write_text("no sound")
    command = ["predict", "--model", str(model_folder), "--timeline", "png"]
    assert main([*command, str(tmp_path / "in/a.wav")]) == 1
    assert "give --output" in capsys.readouterr().err
    table = tmp_path / "out.csv"
    assert main([*command, "--output", str(table), str(tmp_path / "in")]) == 1
    assert "b.wav" in capsys.readouterr().err
    (picture,) = (tmp_path / "out.timeline").iterdir()
    assert picture.name == "a.wav.png"
    assert picture.read_bytes()[1:4] == b"PNG"


def test_a_file_that_is_no_sound_is_named(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("no sound")
    with pytest.raises(AudioError, match="a.wav"):
        timeline_picture(path, [])

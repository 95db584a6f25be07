"""The model that ships answers as it always has.

``python tests/golden/test_answers.py`` prints the numbers of ``answers.json``
anew: for a change that is meant to move them, which says so.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from clips import CLIPS, write_clips
from readme import EXPORT
from speechbrain.inference.classifiers import (
    EncoderClassifier as SpeechBrainEncoderClassifier,
)

from qieemo_sb import EncoderClassifier, OnnxClassifier
from qieemo_sb.serving.onnx.export import export_onnx

MODEL = Path(__file__).parents[2] / "pretrained/open"
GOLDEN = Path(__file__).with_name("answers.json")
# Products in 8 bits round as the processor's instructions do.
TOLERANCE = {"torch": 1e-4, "float32": 1e-4, "int8": 2e-2}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory, readme_run):
    int8 = readme_run[0] / EXPORT
    return load_all(tmp_path_factory.mktemp("models"), int8)


def load_all(folder, int8):
    """The model, its exports, one of them made, and SpeechBrain's class."""
    float32 = export_onnx(MODEL, folder / "float32")
    return {
        "torch": EncoderClassifier.from_hparams(MODEL),
        "speechbrain": SpeechBrainEncoderClassifier.from_hparams(
            str(MODEL), savedir=str(folder / "speechbrain")
        ),
        "float32": OnnxClassifier.from_folder(float32),
        "int8": OnnxClassifier.from_folder(int8),
    }


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("how", TOLERANCE)
def test_log_probabilities_stay(how, clip, classifiers, clips, golden):
    log_probs = np.asarray(classifiers[how].classify_file(clips[clip])[0][0])
    expected = golden[how][clip]
    np.testing.assert_allclose(log_probs, expected, atol=TOLERANCE[how])


@pytest.mark.parametrize("clip", CLIPS)
def test_speechbrains_class_gives_the_same(clip, classifiers, clips, golden):
    log_probs = classifiers["speechbrain"].classify_file(str(clips[clip]))[0]
    np.testing.assert_allclose(log_probs[0], golden["torch"][clip], atol=1e-4)


def test_embedding_and_transcript_stay(classifiers, clips, golden):
    classifier = classifiers["torch"]
    wav = classifier.load_audio(clips["sentence"])
    embedding = classifier.encode_batch(wav)[0]
    expected = golden["embedding"]
    assert embedding.norm().item() == pytest.approx(expected["norm"], rel=1e-4)
    first = embedding[:8].tolist()
    assert first == pytest.approx(expected["first"], abs=1e-3)
    assert classifier.transcribe_batch(wav)[0][0] == golden["transcript"]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder))
        int8 = export_onnx(MODEL, Path(folder) / "int8", int8=True)
        loaded = load_all(Path(folder) / "models", int8)
        answers = {
            how: {
                clip: [
                    round(float(x), 4)
                    for x in loaded[how].classify_file(path)[0][0]
                ]
                for clip, path in paths.items()
            }
            for how in TOLERANCE
        }
        ours = loaded["torch"]
        sound = ours.load_audio(paths["sentence"])
        vector = ours.encode_batch(sound)[0]
        answers["embedding"] = {
            "norm": round(vector.norm().item(), 4),
            "first": [round(x, 4) for x in vector[:8].tolist()],
        }
        answers["transcript"] = ours.transcribe_batch(sound)[0][0]
        print(json.dumps(answers, indent=1))

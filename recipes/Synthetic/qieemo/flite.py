"""flite as a function: a second synthesiser, whose voices are recorded people.

Flite is a program of its own (Debian and Ubuntu: ``apt install flite``).

Authors
 * The Qieemo-SB authors 2026
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

PROGRAM = "flite"
MISSING = "flite is not installed. On Debian or Ubuntu: apt install flite"
VOICES = ("awb", "kal", "kal16", "rms", "slt")


def installed() -> bool:
    """True if the program can be found."""
    return shutil.which(PROGRAM) is not None


def speak(
    text: str,
    voice: str = "slt",
    stretch: float = 1.0,
    pitch: float = 120.0,
    pitch_range: float = 15.0,
) -> tuple[np.ndarray, int]:
    """Speak a text. The same arguments give the same samples.

    Arguments
    ---------
    text : str
        What to say.
    voice : str
        One of ``VOICES``.
    stretch : float
        Of every duration; above 1 is slower.
    pitch : float
        Mean in Hz; "awb", "rms" and "slt" follow it as far as they can.
    pitch_range : float
        Standard deviation in Hz.

    Returns
    -------
    numpy.ndarray
        [S] float32, mono.
    int
        Its rate: 8000 or 16 000 samples a second.

    Raises
    ------
    FileNotFoundError
        The program is not there.
    ValueError
        There is no such voice, or flite fails.
    """
    if voice not in VOICES:
        known = ", ".join(VOICES)
        raise ValueError(f"flite has no voice {voice!r}; it has {known}")
    if not installed():
        raise FileNotFoundError(MISSING)
    command = [PROGRAM, "-voice", voice, "-t", text]
    for name, value in (
        ("duration_stretch", stretch),
        ("int_f0_target_mean", pitch),
        ("int_f0_target_stddev", pitch_range),
    ):
        command += ["--setf", f"{name}={value:.3f}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        result = subprocess.run(
            [*command, "-o", str(path)], capture_output=True, text=True
        )
        if result.returncode != 0 or not path.is_file():
            raise ValueError(f"flite failed on {text!r}: {result.stderr}")
        return soundfile.read(path, dtype="float32")

"""espeak-ng as a function: text and a voice's settings in, samples out.

A ctypes driver of the libespeak-ng that the optional package
``espeakng-loader`` carries. The library keeps global state that nothing in
its interface resets (a free-running table bends the pitch, the noise is seeded
with the time of day), so an utterance would depend on those before it. Here
every utterance gets a freshly loaded library, a few milliseconds each:
`speak` returns the same samples for the same arguments, in any order and in
any process.

Authors
 * The Qieemo-SB authors 2026
"""

import _ctypes
import ctypes
import os
import threading
from contextlib import contextmanager
from functools import cache

import numpy as np

ESPEAK_RATE = 22_050  # samples per second of espeak-ng's output

LIMITS = {
    "rate": (80, 450),  # words per minute
    "pitch": (0, 99),
    "pitch_range": (0, 99),
    "volume": (0, 200),  # 100 is full, above it loud vowels are clipped
}

# Constants of speak_lib.h
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "pitch_range": 4}
SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback
DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report, never exit()
UTF8 = 1  # espeakCHARS_UTF8

SEPARATOR = "_"
IPA = 2 | ord(SEPARATOR) << 8  # phonememode: IPA, with a separator
STRESS = str.maketrans("", "", "ˈˌ")
NOISE_SEED = 1

LOCK = threading.Lock()  # the library is one engine a process

Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Voice(ctypes.Structure):
    """``espeak_VOICE`` of ``speak_lib.h``."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),  # a priority byte, a tag, zero, ...
        ("identifier", ctypes.c_char_p),  # the voice's file
        *((name, ctypes.c_ubyte) for name in "gender age variant xx1".split()),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


def speak(
    text: str,
    voice: str = "en-us",
    rate: int = 175,
    pitch: int = 50,
    pitch_range: int = 50,
    volume: int = 100,
) -> np.ndarray:
    """Speak a text. The same arguments give the same samples, always.

    Arguments
    ---------
    text : str
        What to say; plain text, markup is read out.
    voice : str
        A language of `languages`, alone or with a variant of `variants`:
        ``"en-us"``, ``"en-gb+m3"``.
    rate : int
        Words per minute, 80 to 450.
    pitch : int
        0 to 99; 50 is the voice's own. Equal steps are equal ratios in any
        voice, so a change of pitch means the same for every speaker.
    pitch_range : int
        0 (monotone) to 99; 50 is the voice's own.
    volume : int
        0 (silence) to 200; 100 is full.

    Returns
    -------
    numpy.ndarray
        [S] int16, mono, ``ESPEAK_RATE`` samples a second.

    Raises
    ------
    ImportError
        ``espeakng-loader`` is not installed.
    ValueError
        There is nothing to say, the voice does not exist or a setting is
        outside its limits.
    """
    settings = dict(
        zip(LIMITS, (rate, pitch, pitch_range, volume), strict=True)
    )
    for name, value in settings.items():
        low, high = LIMITS[name]
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low} to {high}, not {value}")
    content, identifier = _encode(text), _resolve(voice)
    chunks = []

    def collect(samples, count, events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0  # go on

    callback = Callback(collect)  # must outlive the synthesis
    with _engine() as library:
        library.espeak_SetSynthCallback(callback)
        _check(library.espeak_SetVoiceByName(identifier), "SetVoiceByName")
        # A voice brings settings of its own: they are set after it.
        for name, value in settings.items():
            parameter = PARAMETERS[name], int(value), 0
            _check(library.espeak_SetParameter(*parameter), "SetParameter")
        size = len(content) + 1
        _check(
            library.espeak_Synth(content, size, 0, 0, 0, UTF8, None, None),
            "Synth",
        )
    return np.frombuffer(b"".join(chunks), dtype=np.int16).copy()


def phonemes(text: str, voice: str = "en-us") -> list[list[str]]:
    """Phonemes of a text as espeak-ng pronounces it; no sound is made.

    Arguments
    ---------
    text : str
        What to pronounce.
    voice : str
        See `speak`.

    Returns
    -------
    list of list of str
        Words of IPA phonemes, stress marks off. Words that are said as one,
        such as "of the", may come as one.

    Example
    -------
    >>> phonemes("kids talk")
    [['k', 'ɪ', 'd', 'z'], ['t', 'ɔː', 'k']]
    """
    identifier = _resolve(voice)
    rest = ctypes.c_char_p(_encode(text))  # moves on by clauses, to null
    clauses = []
    with _engine() as library:
        _check(library.espeak_SetVoiceByName(identifier), "SetVoiceByName")
        while rest.value is not None:
            clause = library.espeak_TextToPhonemes(
                ctypes.byref(rest), UTF8, IPA
            )
            clauses.append(clause.decode("utf-8"))
    words = " ".join(clauses).translate(STRESS).split()
    found = [[p for p in word.split(SEPARATOR) if p] for word in words]
    return [word for word in found if word]


def languages() -> tuple[str, ...]:
    """Kinds of English, such as ``"en-gb"``, in alphabetical order."""
    return tuple(sorted(t for t in _voices() if t.startswith("en")))


def variants() -> tuple[str, ...]:
    """Variants of the voice: other vocal tracts for the same language.

    Returns
    -------
    tuple of str
        Names such as ``"f2"``, in alphabetical order; a voice is
        ``language + "+" + variant``.
    """
    files = _voices("variant").values()
    return tuple(sorted(file.removeprefix("!v/") for file in files))


def _encode(text):
    if not text.strip():
        raise ValueError("espeak-ng has nothing to say: the text is empty")
    if "\0" in text:
        raise ValueError(f"a text must not contain a zero byte: {text!r}")
    return text.encode("utf-8")


def _resolve(voice):
    """A voice's files.

    espeak-ng itself ignores an unknown variant without a word, and knows
    some languages by their tag but not by their tag and a variant.
    """
    language, plus, variant = voice.partition("+")
    if language not in _voices():
        known = ", ".join(languages())
        raise ValueError(
            f"espeak-ng has no language {language!r}; of English it has {known}"
        )
    if plus and variant not in variants():
        known = ", ".join(variants())
        raise ValueError(
            f"espeak-ng has no variant {variant!r}; it has {known}"
        )
    return f"{_voices()[language]}{plus}{variant}".encode()


@cache
def _voices(kind=None):
    """Language tag, or a variant's file, → the voice's file."""
    found = {}
    with _engine() as library:
        wanted = ctypes.byref(Voice(languages=kind.encode())) if kind else None
        voices = library.espeak_ListVoices(wanted)
        count = 0
        # The list ends with a null pointer and dies with the library.
        while voices[count]:
            voice = voices[count].contents
            identifier = voice.identifier.decode("utf-8")
            # The tag without its priority byte; all variants have the same.
            key = identifier if kind else voice.languages[1:].decode("utf-8")
            found.setdefault(key, identifier)
            count += 1
    return found


def _check(status, function):
    if status != 0:
        raise RuntimeError(f"espeak_{function} failed with status {status}")


@contextmanager
def _engine():
    """Load and start a fresh library; unload it at the end.

    Unloading clears the state that initialising again would keep.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError(
            "speaking needs espeak-ng, which the package espeakng-loader "
            "carries: pip install qieemo-sb[demo]"
        ) from error
    with LOCK:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            _start(library, os.fsencode(espeakng_loader.get_data_path()))
            yield library
        finally:
            library.espeak_Terminate()
            # ctypes never closes a library; its private half has the handle.
            if os.name == "nt":
                _ctypes.FreeLibrary(library._handle)
            else:
                _ctypes.dlclose(library._handle)


def _start(library, path):
    """Declare the functions; start the engine on the package's own data.

    The library was built on another machine, whose path it falls back to; a
    path it cannot open or that overflows its 160-byte buffer ends there.
    """
    voices = ctypes.POINTER(ctypes.POINTER(Voice))
    text, number, pointer = ctypes.c_char_p, ctypes.c_uint, ctypes.c_void_p
    library.espeak_ListVoices.restype = voices
    library.espeak_ListVoices.argtypes = [ctypes.POINTER(Voice)]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_TextToPhonemes.restype = text
    library.espeak_TextToPhonemes.argtypes = [
        ctypes.POINTER(text),  # moved on a clause
        ctypes.c_int,  # its encoding
        ctypes.c_int,  # phonememode
    ]
    library.espeak_Synth.argtypes = [
        *(text, ctypes.c_size_t),  # its bytes with the closing zero
        *(number, ctypes.c_int, number),  # start, what it counts, end
        *(number, pointer, pointer),  # flags, identifier, user data
    ]
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, path, DONT_EXIT)
    if rate != ESPEAK_RATE:
        raise RuntimeError(
            f"espeak-ng could not start on its data in {os.fsdecode(path)} "
            f"({len(path)} bytes; it accepts fewer than 160)"
        )
    library.espeak_ng_SetRandSeed(NOISE_SEED)

"""espeak-ng as a function: text and a voice's settings in, samples out.

A ctypes driver of the libespeak-ng that the optional package
``espeakng-loader`` carries. The library keeps global state that nothing in
its interface resets (a free-running table bends the pitch, the noise is seeded
with the time of day), so an utterance would depend on those before it. Here
every utterance gets a freshly loaded library, a few milliseconds each:
:func:`speak` returns the same samples for the same arguments, in any order
and in any process.
"""

import _ctypes
import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

ESPEAK_RATE = 22_050  # samples per second of everything espeak-ng says

RATE_RANGE = (80, 450)  # words per minute
PITCH_RANGE = (0, 99)  # also of the pitch range
VOLUME_RANGE = (0, 200)  # 100 is full, above it loud vowels are clipped

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report, never exit()
_UTF8 = 1  # espeakCHARS_UTF8
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_FEMALE = 2  # espeak_VOICE.gender
_NOISE_SEED = 1
_SEPARATOR = "_"
_IPA = 2 | ord(_SEPARATOR) << 8  # phonememode: IPA, with a separator
_STRESS = "ˈˌ"

_LOCK = threading.Lock()  # the library is one engine a process

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Voice(ctypes.Structure):
    """``espeak_VOICE`` of ``speak_lib.h``."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),  # a priority byte, a tag, zero, ...
        ("identifier", ctypes.c_char_p),  # the voice's file
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
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
    """Say a text. The same arguments give the same samples, always.

    Arguments
    ---------
    text : str
        What to say; plain text, markup is read out.
    voice : str
        A language of :func:`languages`, alone or with a variant of
        :func:`variants`: ``"en-us"``, ``"en-gb+m3"``.
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
        If ``espeakng-loader`` is not installed.
    ValueError
        If there is nothing to say, the voice does not exist or a setting is
        outside its limits.

    Example
    -------
    >>> samples = speak("good morning", "en-gb+f2", rate=160)
    >>> samples.dtype, len(samples) > ESPEAK_RATE // 2
    (dtype('int16'), True)
    """
    content = _encode(text)
    identifier = _resolve(voice)
    settings = {
        _RATE: _checked("rate", rate, RATE_RANGE),
        _PITCH: _checked("pitch", pitch, PITCH_RANGE),
        _RANGE: _checked("pitch_range", pitch_range, PITCH_RANGE),
        _VOLUME: _checked("volume", volume, VOLUME_RANGE),
    }
    with _engine() as library:
        return _synthesise(library, content, identifier, settings)


def phonemes(text: str, voice: str = "en-us") -> list[list[str]]:
    """How espeak-ng pronounces a text, without saying it.

    Arguments
    ---------
    text : str
        What to pronounce.
    voice : str
        See :func:`speak`.

    Returns
    -------
    list of list of str
        Words of IPA phonemes, stress marks off. Words that are said as one,
        such as "of the", may come as one.

    Raises
    ------
    ImportError, ValueError
        As :func:`speak`.

    Example
    -------
    >>> phonemes("kids talk")
    [['k', 'ɪ', 'd', 'z'], ['t', 'ɔː', 'k']]
    """
    content = _encode(text)
    identifier = _resolve(voice)
    with _engine() as library:
        _expect_ok(library.espeak_SetVoiceByName(identifier), "SetVoiceByName")
        pronounced = _pronounce(library, content)
    for mark in _STRESS:
        pronounced = pronounced.replace(mark, "")
    words = [word.split(_SEPARATOR) for word in pronounced.split()]
    return [[p for p in word if p] for word in words if any(word)]


def languages(prefix: str = "en") -> tuple[str, ...]:
    """Languages whose tag starts with ``prefix``, in alphabetical order.

    Arguments
    ---------
    prefix : str
        ``"en"`` for all kinds of English, ``""`` for every language.

    Returns
    -------
    tuple of str
        Tags such as ``"en-gb"``, to be used as voices.
    """
    return tuple(sorted(t for t in _languages() if t.startswith(prefix)))


def variants(gender: str | None = None) -> tuple[str, ...]:
    """Variants of the voice: other vocal tracts for the same language.

    Arguments
    ---------
    gender : str, optional
        ``"F"`` or ``"M"``: only the variants of that gender.

    Returns
    -------
    tuple of str
        Names such as ``"f2"``, in alphabetical order; a voice is
        ``language + "+" + variant``.
    """
    if gender not in (None, "F", "M"):
        raise ValueError(f"gender is 'F', 'M' or None, not {gender!r}")
    found = _variants().items()
    return tuple(sorted(n for n, g in found if gender in (None, g)))


def _encode(text: str) -> bytes:
    if not text.strip():
        raise ValueError("espeak-ng has nothing to say: the text is empty")
    if "\0" in text:
        raise ValueError(f"a text must not contain a zero byte: {text!r}")
    return text.encode("utf-8")


def _checked(name: str, value: int, limits: tuple[int, int]) -> int:
    low, high = limits
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low} to {high}, not {value}")
    return int(value)


def _resolve(voice: str) -> bytes:
    """Name a voice by its files.

    espeak-ng itself ignores an unknown variant without a word, and knows
    some languages by their tag but not by their tag and a variant.
    """
    language, _, variant = voice.partition("+")
    if language not in _languages():
        raise ValueError(
            f"espeak-ng has no language {language!r}; of English it has "
            f"{', '.join(languages())}"
        )
    if "+" in voice and variant not in _variants():
        raise ValueError(
            f"espeak-ng has no variant {variant!r}; it has "
            f"{', '.join(variants())}"
        )
    suffix = f"+{variant}" if variant else ""
    return f"{_languages()[language]}{suffix}".encode()


@cache
def _languages() -> dict[str, str]:
    """Language tag -> voice file."""
    found = {}
    for voice in _list_voices(None):
        tag = voice["languages"][1:]  # without the priority byte
        found.setdefault(tag, voice["identifier"])
    return found


@cache
def _variants() -> dict[str, str]:
    """Variant -> "F" or "M"."""
    return {
        voice["identifier"].removeprefix("!v/").removeprefix("!v\\"): (
            "F" if voice["gender"] == _FEMALE else "M"
        )
        for voice in _list_voices(b"variant")
    }


def _list_voices(kind: bytes | None) -> list[dict]:
    found = []
    with _engine() as library:
        wanted = ctypes.byref(_Voice(languages=kind)) if kind else None
        voices = library.espeak_ListVoices(wanted)
        # The list ends with a null pointer and dies with the library.
        for voice in iter(lambda: voices[len(found)], None):
            if not voice:
                break
            record = voice.contents
            found.append(
                {
                    "languages": record.languages.decode("utf-8"),
                    "identifier": record.identifier.decode("utf-8"),
                    "gender": record.gender,
                }
            )
    return found


def _synthesise(
    library: ctypes.CDLL,
    content: bytes,
    identifier: bytes,
    settings: dict[int, int],
) -> np.ndarray:
    chunks = []

    def collect(samples, count, events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0  # go on

    callback = _Callback(collect)  # must outlive the synthesis
    library.espeak_SetSynthCallback(callback)
    _expect_ok(library.espeak_SetVoiceByName(identifier), "SetVoiceByName")
    # A voice brings settings of its own: they are set after it.
    for parameter, value in settings.items():
        _expect_ok(
            library.espeak_SetParameter(parameter, value, 0), "SetParameter"
        )
    status = library.espeak_Synth(
        content, len(content) + 1, 0, 0, 0, _UTF8, None, None
    )
    _expect_ok(status, "Synth")
    return np.frombuffer(b"".join(chunks), dtype=np.int16).copy()


def _pronounce(library: ctypes.CDLL, content: bytes) -> str:
    """The phonemes of all clauses, words apart by spaces."""
    rest = ctypes.c_char_p(content)  # moves on, to null at the end
    clauses = []
    while rest.value is not None:
        said = library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA)
        clauses.append(said.decode("utf-8"))
    return " ".join(clauses)


def _expect_ok(status: int, function: str) -> None:
    if status != 0:
        raise RuntimeError(f"espeak_{function} failed with status {status}")


@contextmanager
def _engine() -> Iterator[ctypes.CDLL]:
    """Load and initialise a fresh library; unload it at the end.

    Unloading clears the state that initialising again would keep.
    """
    loader = _loader()
    with _LOCK:
        library = _declare(ctypes.CDLL(loader.get_library_path()))
        try:
            _initialise(library, loader.get_data_path())
            yield library
        finally:
            library.espeak_Terminate()
            _unload(library)


def _loader():
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError(
            "speaking needs espeak-ng, which the package espeakng-loader "
            "carries: pip install qieemo-sb[demo]"
        ) from error
    return espeakng_loader


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    voices = ctypes.POINTER(ctypes.POINTER(_Voice))
    library.espeak_ListVoices.restype = voices
    library.espeak_ListVoices.argtypes = [ctypes.POINTER(_Voice)]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [
        ctypes.POINTER(ctypes.c_char_p),  # text, moved on a clause
        ctypes.c_int,  # its encoding
        ctypes.c_int,  # phonememode
    ]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,  # text
        ctypes.c_size_t,  # its bytes with the closing zero
        ctypes.c_uint,  # start
        ctypes.c_int,  # what start counts
        ctypes.c_uint,  # end, 0 = none
        ctypes.c_uint,  # flags
        ctypes.c_void_p,  # unique identifier
        ctypes.c_void_p,  # user data
    ]
    return library


def _initialise(library: ctypes.CDLL, data_path: str) -> None:
    """Start the engine on the package's own data.

    The library was built on another machine, whose path it falls back to; a
    path it cannot open or that overflows its 160-byte buffer ends there.
    """
    path = os.fsencode(data_path)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, path, _DONT_EXIT)
    if rate != ESPEAK_RATE:
        raise RuntimeError(
            f"espeak-ng could not start on its data in {data_path} "
            f"({len(path)} bytes; it accepts fewer than 160)"
        )
    library.espeak_ng_SetRandSeed(_NOISE_SEED)


def _unload(library: ctypes.CDLL) -> None:
    # ctypes never closes a library; its private half offers the only handle.
    if os.name == "nt":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)

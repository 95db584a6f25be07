"""espeak-ng as a pure function of its arguments."""

import builtins

import espeak
import espeakng_loader
import numpy as np
import pytest

TEXT = "The river is wide today"


def rms(samples):
    return np.sqrt(np.mean((samples / 32_768) ** 2))


def median_f0(samples, low=60, high=450):
    """Median over voiced frames of the autocorrelation's best period."""
    found = []
    for start in range(0, len(samples) - 1_024, 512):
        frame = samples[start : start + 1_024] * np.hanning(1_024)
        power = np.abs(np.fft.rfft(frame, 4_096)) ** 2
        correlation = np.fft.irfft(power)
        shortest = espeak.ESPEAK_RATE // high
        lags = correlation[shortest : espeak.ESPEAK_RATE // low]
        if lags.max() > 0.5 * correlation[0] > 0:
            found.append(espeak.ESPEAK_RATE / (shortest + lags.argmax()))
    return np.median(found)


def test_speech_is_int16_mono_and_about_two_seconds_long():
    samples = espeak.speak(TEXT)
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    assert 0.8 < len(samples) / 22_050 < 3.0
    assert rms(samples) > 0.01


@pytest.mark.parametrize("voice", ["en-us", "en-gb+f2", "en-us+whisper"])
def test_samples_do_not_depend_on_what_was_said_before(voice):
    first = espeak.speak(TEXT, voice)
    espeak.speak("something quite different", "en-gb+m3", rate=300, pitch=80)
    assert np.array_equal(first, espeak.speak(TEXT, voice))


def test_settings_do_not_linger():
    plain = espeak.speak(TEXT)
    espeak.speak(TEXT, "en-us+croak", 400, 90, 90, 20)
    assert np.array_equal(plain, espeak.speak(TEXT))


def test_two_hundred_utterances_in_a_row_all_sound():
    lengths = {len(espeak.speak("yes", rate=80 + i)) for i in range(200)}
    assert min(lengths) > 1_000


def test_a_slower_rate_takes_longer():
    slow, fast = (len(espeak.speak(TEXT, rate=r)) for r in (100, 200))
    assert slow / fast == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize("voice", ["en-us+m3", "en-us+f2"])
def test_a_step_of_pitch_is_the_same_ratio_for_every_voice(voice):
    low, high = (
        median_f0(espeak.speak(TEXT, voice, pitch=p, pitch_range=10))
        for p in (50, 80)
    )
    assert high / low == pytest.approx(1.34, abs=0.07)


def test_half_the_volume_is_half_the_amplitude():
    full, half = (rms(espeak.speak(TEXT, volume=v)) for v in (100, 50))
    assert half / full == pytest.approx(0.5, abs=0.05)


def test_volume_zero_is_silence():
    assert not espeak.speak(TEXT, volume=0).any()


def test_a_wide_range_moves_the_pitch_more():
    flat, wide = (espeak.speak(TEXT, pitch_range=r) for r in (0, 99))
    assert not np.array_equal(flat[: len(wide)], wide[: len(flat)])
    assert spread(wide) > 2 * spread(flat)


def spread(samples):
    thirds = np.array_split(samples, 6)
    return np.ptp([np.log(median_f0(part)) for part in thirds])


def test_common_languages_and_variants_are_found():
    assert {"en-us", "en-gb"} <= set(espeak.languages())
    assert {"f1", "f2", "m1", "m7", "linda"} <= set(espeak.variants())


def test_every_variant_sounds_different_from_every_other():
    names = [f"f{i}" for i in range(1, 6)] + [f"m{i}" for i in range(1, 9)]
    sounds = {espeak.speak("hello", f"en-us+{n}").tobytes() for n in names}
    assert len(sounds) == 13


def test_women_speak_higher_than_men():
    woman = median_f0(espeak.speak(TEXT, "en-gb+f2"))
    man = median_f0(espeak.speak(TEXT, "en-gb+m3"))
    assert man < 140 < 160 < woman


@pytest.mark.parametrize("voice", ["xx", "en-us+nobody", "en-us+", "", "+f2"])
def test_an_unknown_voice_is_refused(voice):
    with pytest.raises(ValueError, match="espeak-ng has no"):
        espeak.speak(TEXT, voice)


@pytest.mark.parametrize(
    "setting",
    [
        {"rate": 79},
        {"rate": 451},
        {"pitch": -1},
        {"pitch": 100},
        {"pitch_range": 100},
        {"volume": 201},
        {"volume": float("nan")},
    ],
)
def test_a_setting_outside_its_limits_is_named(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be"):
        espeak.speak(TEXT, **setting)


@pytest.mark.parametrize("text", ["", "  \n", "a\0b"])
def test_a_text_that_cannot_be_said_is_refused(text):
    with pytest.raises(ValueError):
        espeak.speak(text)


def test_a_missing_package_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install qieemo-sb\[demo\]"):
        espeak.speak(TEXT)


def test_data_that_cannot_be_opened_is_an_error(tmp_path, monkeypatch):
    absent = str(tmp_path / "absent")
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: absent)
    with pytest.raises(RuntimeError, match="absent"):
        espeak.speak(TEXT)

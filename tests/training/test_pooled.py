"""What is kept is the mean and deviation of what the encoder said."""

import numpy as np
import pytest
import torch

from qieemo_sb.audio import read_audio
from qieemo_sb.training.cache import EncoderCache, PooledCache

BLOCKS = [0, 1, 2, 3]


@pytest.fixture
def wavs(write_wav, sound):
    return [
        write_wav(sound(size, seed), name=f"{seed}.wav")
        for seed, size in enumerate((16_000, 9_999))
    ]


@pytest.fixture
def cache(tmp_path, make_encoder):
    return PooledCache(tmp_path / "cache", make_encoder(), BLOCKS)


def test_means_then_deviations_of_every_block(cache, wavs):
    assert cache.fill(wavs, progress=False) == 2
    for wav in wavs:
        hidden = cache.encoder(read_audio(wav)[None]).hidden_states
        expected = np.stack(
            [
                torch.cat([x[0].mean(0), x[0].std(0, correction=0)]).numpy()
                for x in (hidden[k] for k in BLOCKS)
            ]
        )
        assert np.allclose(cache.load(wav), expected, atol=1e-5)


def test_files_that_are_encoded_together_do_not_mix(cache, make_encoder, wavs):
    cache.fill(wavs, progress=False)
    alone = PooledCache(cache.folder.parent / "alone", make_encoder(), BLOCKS)
    alone.fill(wavs[1:], progress=False)
    assert np.allclose(alone.load(wavs[1]), cache.load(wavs[1]), atol=1e-5)


def test_a_second_pass_encodes_nothing(cache, wavs):
    cache.fill(wavs, progress=False)
    assert cache.fill(wavs, progress=False) == 0


def test_frames_and_statistics_are_kept_apart(cache, make_encoder, wavs):
    folder = cache.folder.parent
    frames = EncoderCache(folder, make_encoder(), BLOCKS)
    assert frames.folder != cache.folder
    assert frames.fill(wavs, progress=False) == 2
    assert cache.fill(wavs, progress=False) == 2
    assert frames.load(wavs[0]).shape == (50, 4, 16)
    assert cache.load(wavs[0]).shape == (4, 32)


def test_frames_are_not_kept(cache, wavs):
    cache.fill(wavs, progress=False)
    sizes = [path.stat().st_size for path in cache.folder.iterdir()]
    assert max(sizes) < 1_000  # 4 blocks x 32 x 4 bytes and a header

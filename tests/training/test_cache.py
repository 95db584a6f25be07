"""The cache holds the encoder's output, and nothing is computed twice."""

import os
import shutil
from types import SimpleNamespace

import fills
import pytest
import torch
from forks import FORKS

from qieemo_sb.audio import read_audio
from qieemo_sb.errors import AudioError, CacheError
from qieemo_sb.training.cache import EncoderCache


@pytest.fixture
def wavs(write_wav, sound):
    """Three files, one of them over 30 s."""
    lengths = (16_000, 500_000, 9_999)
    return [
        write_wav(sound(size, seed), name=f"{seed}.wav")
        for seed, size in enumerate(lengths)
    ]


@pytest.fixture
def make_cache(tmp_path, make_encoder):
    def make(seed=0, blocks=(1, 3), **options):
        folder = tmp_path / "cache"
        return EncoderCache(folder, make_encoder(seed), blocks, **options)

    return make


def alone(encoder, wav, blocks):
    """[T, K, D] of a file by itself."""
    wavs = torch.from_numpy(read_audio(wav))[None]
    hidden = encoder(wavs, blocks=blocks).hidden_states
    return torch.stack([hidden[k][0] for k in blocks], dim=1)


def fill(cache, wavs):
    return cache.fill(wavs)


@pytest.mark.parametrize("blocks", [[1, 3], [3, 1]])
def test_an_entry_is_exactly_the_output_of_the_encoder(
    make_cache, wavs, blocks
):
    cache = make_cache(blocks=blocks)
    for wav in wavs:
        assert fill(cache, [wav]) == 1
        assert cache.load(wav).dtype == torch.float32
        expected = alone(cache.encoder, wav, blocks)
        assert torch.equal(cache.load(wav), expected)


def test_files_that_are_encoded_together(make_cache, wavs):
    cache, pooled = make_cache(), make_cache(pooled=True)
    assert fill(cache, wavs) == fill(pooled, wavs) == 3
    for wav in wavs:
        expected = alone(cache.encoder, wav, cache.blocks)
        assert torch.allclose(cache.load(wav), expected, atol=1e-5)
        moments = [expected.mean(dim=0), expected.std(dim=0, correction=0)]
        expected = torch.cat(moments, dim=-1)  # [K, 2 D]
        assert torch.allclose(pooled.load(wav), expected, atol=1e-5)
    sizes = [path.stat().st_size for path in pooled.folder.iterdir()]
    assert max(sizes) < 500  # 2 blocks x 32 x 4 bytes and a header


def test_half_precision_keeps_three_digits(make_cache, wavs):
    cache = make_cache(dtype="float16")
    fill(cache, wavs[:1])
    frames = cache.load(wavs[0])[None]
    hidden = cache.output(frames, torch.tensor([50])).hidden_states
    expected = alone(cache.encoder, wavs[0], cache.blocks)
    assert hidden[3].dtype == torch.float32
    assert torch.allclose(hidden[3][0], expected[:, 1], rtol=1e-3, atol=1e-4)
    assert not torch.equal(hidden[3][0], expected[:, 1])


def test_second_fill_encodes_nothing(make_cache, wavs):
    assert fill(make_cache(), wavs) == 3
    again = make_cache()
    again.encoder.register_forward_pre_hook(lambda *_: pytest.fail("encoded"))
    assert fill(again, wavs) == 0
    assert fill(again, [*wavs, *wavs]) == 0


def test_file_named_twice_is_encoded_once(make_cache, wavs):
    assert fill(make_cache(), [wavs[0], wavs[0]]) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"blocks": [1, 2]},
        {"dtype": "float16"},
        {"pooled": True},
    ],
)
def test_other_contents_have_other_entries(make_cache, wavs, change):
    fill(make_cache(), wavs[:1])
    assert fill(make_cache(**change), wavs[:1]) == 1
    assert fill(make_cache(), wavs[:1]) == 0


def test_one_changed_weight_is_enough(make_cache, make_encoder, tmp_path):
    encoder = make_encoder()
    before = EncoderCache(tmp_path, encoder, [1]).folder
    assert EncoderCache(tmp_path, encoder, [1]).folder == before
    encoder.blocks[2].fc1.weight.data[0, 0] += 1e-6
    assert EncoderCache(tmp_path, encoder, [1]).folder != before


def test_touched_audio_is_encoded_again(make_cache, wavs):
    cache = make_cache()
    fill(cache, wavs)
    os.utime(wavs[0], ns=(0, 123_456_789))
    assert fill(cache, wavs) == 1


def test_interrupted_fill_goes_on(make_cache, wavs):
    cache = make_cache()
    fill(cache, wavs)
    entries = sorted(cache.folder.iterdir())
    kept, contents = cache.load(wavs[1]), entries[1].read_bytes()
    entries[1].unlink()
    # What a killed process leaves: half a file under a name of its own.
    leftover = cache.folder / f".1.partial.{entries[1].name}"
    leftover.write_bytes(contents[:100])
    assert fill(cache, wavs) == 1
    assert torch.allclose(cache.load(wavs[1]), kept, atol=1e-5)
    assert len(entries[1].read_bytes()) == len(contents)


def test_failure_keeps_what_was_done(make_cache, wavs, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio" * 1_000_000)  # large files come last
    cache = make_cache()
    with pytest.raises(AudioError, match="broken.wav"):
        fill(cache, [broken, *wavs])
    assert fill(cache, wavs) < 3


def test_nothing_is_left_beside_the_entries(make_cache, wavs):
    cache = make_cache()
    fill(cache, wavs)
    names = os.listdir(cache.folder)
    assert len(names) == 3
    assert all(len(n) == 36 and n.endswith(".npy") for n in names)


def test_two_fill_the_same_folder(make_cache, wavs):
    one, other = make_cache(), make_cache()
    counts = []

    def other_is_faster(*_):
        counts.append(fill(other, wavs))

    # While `one` encodes its first batch, `other` does all the work.
    handle = one.encoder.register_forward_pre_hook(other_is_faster)
    counts.append(fill(one, wavs))
    handle.remove()
    assert counts[0] == 3 and counts[-1] == 3
    for wav in wavs:
        expected = alone(one.encoder, wav, one.blocks)
        assert torch.allclose(one.load(wav), expected, atol=1e-5)
    assert len(os.listdir(one.folder)) == 3


def test_two_processes_fill_the_same_folders(
    make_encoder, write_wav, sound, tmp_path
):
    wavs = [
        write_wav(sound(4_000 + 10 * i, i), name=f"{i}.wav") for i in range(24)
    ]
    encoder = make_encoder()
    caches = [EncoderCache(tmp_path / f"{i}", encoder, [1]) for i in range(8)]
    start = FORKS.Barrier(2)
    processes = [
        FORKS.Process(target=fills.fill_together, args=(caches, wavs, start))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    expected = [alone(encoder, wav, [1]) for wav in wavs]
    for cache in caches:
        assert len(os.listdir(cache.folder)) == 24
        for wav, frames in zip(wavs, expected, strict=True):
            assert torch.allclose(cache.load(wav), frames, atol=1e-5)


@pytest.mark.parametrize("above", [0, 2])
def test_trainable_encoder_is_refused(tmp_path, make_encoder, above):
    with pytest.raises(ValueError, match="Only a frozen encoder"):
        EncoderCache(tmp_path, make_encoder(trainable_above=above), [1])


def test_mode_of_the_encoder_is_kept(make_cache, wavs):
    cache = make_cache()
    cache.encoder.train()
    fill(cache, wavs[:1])
    assert cache.encoder.training


def test_a_model_gives_the_same_on_cached_frames(
    variant_model, pad, wavs, tmp_path
):
    model = variant_model
    cache = EncoderCache(tmp_path, model.encoder, model.blocks)
    fill(cache, wavs)
    loaded = [cache.load(wav) for wav in wavs]
    lengths = torch.tensor([len(frames) for frames in loaded])
    assert lengths.tolist() == [50, 1_563, 31]
    cached = model(encoded=cache.output(pad(loaded)[0], lengths))
    signals = [torch.from_numpy(read_audio(wav)) for wav in wavs]
    direct = model(*pad(signals))
    assert torch.allclose(cached.log_probs, direct.log_probs, atol=1e-4)
    assert torch.allclose(cached.embedding, direct.embedding, atol=1e-4)


def test_damaged_entry_is_named(make_cache, wavs):
    cache = make_cache()
    fill(cache, wavs[:1])
    (entry,) = cache.folder.glob("*.npy")
    for size in (200, 50, 0):
        with open(entry, "r+b") as file:
            file.truncate(size)
        with pytest.raises(CacheError, match=f"{entry.name} is damaged"):
            cache.load(wavs[0])


def test_a_precision_that_is_not_known(make_cache):
    with pytest.raises(CacheError, match="cache_dtype is bfloat16"):
        make_cache(dtype="bfloat16")


def test_missing_file_is_named(make_cache, tmp_path):
    with pytest.raises(AudioError, match="gone.wav does not exist"):
        fill(make_cache(), [tmp_path / "gone.wav"])


@pytest.mark.parametrize("dtype, size", [("float32", 4), ("float16", 2)])
def test_a_disk_that_is_too_full_is_said_before_work(
    make_cache, wavs, monkeypatch, dtype, size
):
    cache = make_cache(dtype=dtype)
    width = len(cache.blocks) * cache.encoder.d_model * size
    needed = (16_000 + 500_000 + 9_999) / 320 * width
    usage = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(CacheError, match="3 files takes .* cache_folder null"):
        fill(cache, wavs)
    assert list(cache.folder.iterdir()) == []
    usage.free = needed
    assert fill(cache, wavs) == 3

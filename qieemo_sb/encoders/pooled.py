"""What a frozen encoder says of each file, pooled over its frames.

A thousandth of what ``cache.py`` keeps, under the same names: by the encoder's
weights, the blocks and the audio file.

Authors
 * The Qieemo-SB authors 2026
"""

from pathlib import Path

import numpy as np

from qieemo_sb.encoders.cache import EncoderCache


class PooledCache(EncoderCache):
    """Mean and standard deviation of each channel of each block, by file.

    Takes what ``EncoderCache`` takes. Frames themselves are never kept.

    Example
    -------
    >>> import torch
    >>> from speechbrain.dataio import audio_io
    >>> from qieemo_sb.encoders.whisper import WhisperEncoder
    >>> dims = dict(n_mels=80, d_model=8, n_blocks=2, n_heads=2, ffn_dim=16)
    >>> wav = getfixture("tmp_path") / "a.wav"
    >>> audio_io.save(wav, torch.zeros(16_000), 16_000)
    >>> cache = PooledCache(wav.parent, WhisperEncoder(dims=dims), [0, 1, 2])
    >>> cache.fill([wav], progress=False)
    1
    >>> cache.load(wav).shape
    (3, 16)
    """

    def load(self, wav: str | Path) -> np.ndarray:
        """Statistics of a file, [K, 2 D]: means, then deviations."""
        return np.load(self._path(wav)).astype(np.float32)

    def _write(self, path, frames):
        """Write the statistics of frames [T, K, D]."""
        frames = frames.astype(np.float64)
        statistics = [frames.mean(axis=0), frames.std(axis=0)]
        super()._write(path, np.concatenate(statistics, axis=-1))

    def _key(self):
        return f"{super()._key()}-pooled"

"""What a frozen encoder says of each file, computed once and kept on disk.

One ``.npy`` file an utterance, [T, K, D] for the K blocks that are used, read
through a memory map. A file appears when it is whole, so an interrupted run
goes on where it stopped, and two processes can fill the same cache: at worst
both compute an utterance, with the same result. Folds, seeds and runs share
it, since its names depend only on what changes its contents: the encoder's
weights, the blocks, the precision, and the audio file.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from qieemo_sb.audio import audio_seconds, read_batches
from qieemo_sb.corpora.manifest import identity, replacing
from qieemo_sb.encoders.base import EncoderOutput, SpeechEncoder
from qieemo_sb.errors import AudioError, CacheError
from qieemo_sb.frames import FRAME_SECONDS
from qieemo_sb.training.augment import crop_starts

BATCH_SECONDS = 30  # audio encoded at once while filling
DTYPES = ("float32", "float16")
FORMAT = 1  # raised when what an encoder computes changes


class EncoderCache:
    """Hidden states of a frozen encoder, by audio file.

    Arguments
    ---------
    folder : str or Path
        Where to keep them. About 2 kB a frame and block at D = 512.
    encoder : SpeechEncoder
        Frozen.
    blocks : iterable of int
        Which hidden states to keep.
    dtype : str
        "float32", or "float16" for half the disk and about three digits.

    Raises
    ------
    ValueError
        The encoder is not frozen.
    CacheError
        There is no such dtype.

    Example
    -------
    >>> from speechbrain.dataio import audio_io
    >>> from qieemo_sb.encoders.whisper import WhisperEncoder
    >>> dims = dict(n_mels=80, d_model=8, n_blocks=2, n_heads=2, ffn_dim=16)
    >>> folder = getfixture("tmp_path")
    >>> audio_io.save(folder / "a.wav", torch.zeros(16_000), 16_000)
    >>> cache = EncoderCache(folder, WhisperEncoder(dims=dims), [1, 2])
    >>> cache.fill([folder / "a.wav"], progress=False)
    1
    >>> cache.load(folder / "a.wav").shape
    torch.Size([50, 2, 8])
    """

    def __init__(
        self,
        folder: str | Path,
        encoder: SpeechEncoder,
        blocks: Iterable[int],
        dtype: str = "float32",
    ):
        if any(p.requires_grad for p in encoder.parameters()):
            raise ValueError(
                "Only a frozen encoder's outputs can be kept: set "
                "trainable_above to null, or cache_folder to null."
            )
        self.encoder = encoder
        self.blocks = list(blocks)
        if dtype not in DTYPES:
            raise CacheError(f"cache_dtype is {dtype}, none of {DTYPES}.")
        self.dtype = np.dtype(dtype)
        self.folder = Path(folder) / self._key()

    def fill(self, wavs: Iterable[str | Path], progress: bool = True) -> int:
        """Encode the files that are not in the cache yet.

        Arguments
        ---------
        wavs : iterable of str or Path
            Audio files.
        progress : bool
            Whether to show a bar.

        Returns
        -------
        int
            How many files were encoded.

        Raises
        ------
        AudioError
            A file cannot be used; names it.
        CacheError
            The disk is too full for all of them.
        """
        wavs = list(dict.fromkeys(wavs))
        for wav in wavs:
            if not os.path.isfile(wav):
                raise AudioError(f"{wav} does not exist; check the path.", wav)
        missing = [wav for wav in wavs if not self._path(wav).exists()]
        if not missing:
            return 0
        self._check_space(missing)
        training = self.encoder.training
        self.encoder.eval()
        with tqdm(
            total=len(missing), desc="Encoding, once", disable=not progress
        ) as bar:
            for batch in read_batches(missing, BATCH_SECONDS):
                self._encode([missing[i] for i, _ in batch], batch)
                bar.update(len(batch))
        self.encoder.train(training)
        return len(missing)

    def load(self, wav: str | Path) -> torch.Tensor:
        """What the encoder said of a file, [T, K, D] float32."""
        stored = self._stored(wav)
        return torch.from_numpy(stored.astype(np.float32))

    def load_batch(
        self, wavs: Sequence[str | Path], size: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the encoder said of some files, or of a stretch of each.

        Arguments
        ---------
        wavs : sequence of (str or Path)
            B audio files.
        size : int or None
            Frames of a random stretch, which alone is read; None: all.

        Returns
        -------
        torch.Tensor
            [B, T, K, D] float32.
        torch.Tensor
            [B] frames of each.
        """
        stored = [self._stored(wav) for wav in wavs]
        lengths = torch.tensor([len(x) for x in stored])
        starts = [0] * len(wavs)
        if size is not None:
            starts = crop_starts(lengths, size)
            lengths = lengths.clamp(max=size)
        rows = [
            torch.from_numpy(x[start : start + length].astype(np.float32))
            for x, start, length in zip(
                stored, starts, lengths.tolist(), strict=True
            )
        ]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths

    def output(
        self, frames: torch.Tensor, lengths: torch.Tensor
    ) -> EncoderOutput:
        """A padded batch of ``load``'s results as the encoder's output.

        Arguments
        ---------
        frames : torch.Tensor
            [B, T, K, D].
        lengths : torch.Tensor
            [B] frames of each utterance.

        Returns
        -------
        EncoderOutput
        """
        hidden = {k: frames[:, :, i] for i, k in enumerate(self.blocks)}
        return EncoderOutput(hidden, lengths)

    @torch.no_grad()
    def _encode(self, wavs, batch):
        """Encode the waveforms of a batch of files and write each result."""
        for _, signal in batch:
            if isinstance(signal, AudioError):
                raise signal
        signals = [torch.from_numpy(signal) for _, signal in batch]
        device = next(self.encoder.parameters()).device
        lengths = torch.tensor([len(signal) for signal in signals])
        signals = torch.nn.utils.rnn.pad_sequence(signals, batch_first=True)
        encoded = self.encoder(signals.to(device), lengths, self.blocks)
        stacked = torch.stack(
            [encoded.hidden_states[k] for k in self.blocks], dim=2
        )  # [B, T, K, D]
        for wav, frames, size in zip(
            wavs, stacked.cpu(), encoded.lengths.tolist(), strict=True
        ):
            self._write(self._path(wav), frames[:size].numpy())

    def _check_space(self, wavs):
        """Raise CacheError now rather than when the disk is full."""
        seconds = sum(audio_seconds(wav) or 0.0 for wav in wavs)
        width = len(self.blocks) * self.encoder.d_model * self.dtype.itemsize
        needed = seconds / FRAME_SECONDS * width
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise CacheError(
                f"{self.folder}: what the encoder says of {len(wavs)} files "
                f"takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
                "free there. Give a cache_folder on a larger disk, "
                "cache_dtype float16 for half of it, or cache_folder null to "
                "run the encoder every epoch."
            )

    def _stored(self, wav):
        """What is kept of a file, [T, K, D], not read yet."""
        path = self._path(wav)
        try:
            return np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise CacheError(
                f"{path} is damaged ({error}): delete it, and it is made anew."
            ) from error

    def _write(self, path, frames):
        """Write a result, whole or not at all."""
        with replacing(path) as partial:
            np.save(partial, frames.astype(self.dtype))

    def _path(self, wav):
        """Named after the file's place, size and time of change."""
        return self.folder / f"{identity(wav)}.npy"

    def _key(self):
        """Named after the encoder's shape and weights, blocks and dtype."""
        digest = hashlib.sha256()
        what = (
            FORMAT,
            type(self.encoder).__name__,
            self.encoder.config,
            self.blocks,
            self.dtype.str,
        )
        digest.update(repr(what).encode())
        for name, value in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


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

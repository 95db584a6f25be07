"""A frozen encoder's output, computed once for each file and kept on disk.

One ``.npy`` file an utterance, [T, K, D] for the K blocks that are used, read
through a memory map. A file appears when it is complete, so an interrupted run
goes on where it stopped, and two processes can fill the same cache: at worst
both compute an utterance, with the same result. Folds, seeds and runs share
it, since names depend only on what changes the contents: the encoder's
weights, the blocks, the precision, and the audio file.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from qieemo_sb.audio import audio_seconds, read_batches
from qieemo_sb.corpora.manifest import identity, replacing
from qieemo_sb.encoders.base import EncoderOutput, SpeechEncoder
from qieemo_sb.errors import AudioError, CacheError
from qieemo_sb.frames import FRAME_SECONDS

BATCH_SECONDS = 30  # audio encoded at once while filling
DTYPES = ("float32", "float16")
FORMAT = 1  # raised when what an encoder computes changes


class EncoderCache:
    """Hidden states of a frozen encoder, or their statistics, by audio file.

    Arguments
    ---------
    folder : str or Path
        Where to keep them. About 2 kB a frame and block at D = 512.
    encoder : SpeechEncoder
        Frozen.
    blocks : iterable of int
        Hidden states to keep.
    dtype : str
        "float32", or "float16" for half the disk and about three digits.
    pooled : bool
        Keep the mean and standard deviation over the frames, [K, 2 D], instead
        of the frames [T, K, D].

    Raises
    ------
    CacheError
        The encoder is not frozen, or there is no such dtype.

    Example
    -------
    >>> import soundfile
    >>> from qieemo_sb.encoders.whisper import WhisperEncoder
    >>> dims = dict(n_mels=80, d_model=8, n_blocks=2, n_heads=2, ffn_dim=16)
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", np.zeros(16_000), 16_000)
    >>> cache = EncoderCache(folder, WhisperEncoder(dims=dims), [1, 2])
    >>> cache.fill([folder / "a.wav"])
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
        pooled: bool = False,
    ):
        if any(p.requires_grad for p in encoder.parameters()):
            raise CacheError(
                "Only a frozen encoder's output can be kept: set "
                "trainable_above to null, or cache_folder to null."
            )
        if dtype not in DTYPES:
            raise CacheError(f"cache_dtype is {dtype}, none of {DTYPES}.")
        self.encoder = encoder
        self.blocks = list(blocks)
        self.dtype = np.dtype(dtype)
        self.pooled = pooled
        self.folder = Path(folder) / self._key()

    def fill(self, wavs: Iterable[str | Path]) -> int:
        """Encode the files that are not in the cache yet.

        Arguments
        ---------
        wavs : iterable of str or Path
            Audio files.

        Returns
        -------
        int
            Number of files that were encoded.

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
        with tqdm(total=len(missing), desc="Encoding, once") as bar:
            for batch in read_batches(missing, BATCH_SECONDS):
                for _, signal in batch:
                    if isinstance(signal, AudioError):
                        raise signal
                states = self._encode([signal for _, signal in batch])
                for (i, _), frames in zip(batch, states, strict=True):
                    self._write(missing[i], frames)
                bar.update(len(batch))
        self.encoder.train(training)
        return len(missing)

    def load(self, wav: str | Path) -> torch.Tensor:
        """Load the entry of a file, in the cache's precision.

        Arguments
        ---------
        wav : str or Path
            A file that ``fill`` was given.

        Returns
        -------
        torch.Tensor
            [T, K, D], or [K, 2 D] of a pooled cache. A memory map: nothing is
            read before it is needed.

        Raises
        ------
        CacheError
            The entry is damaged.
        """
        path = self._path(wav)
        try:
            return torch.from_numpy(np.load(path, mmap_mode="c"))
        except (ValueError, EOFError) as error:
            raise CacheError(
                f"{path} is damaged ({error}): delete it, and it is made anew."
            ) from error

    def output(
        self, frames: torch.Tensor, lengths: torch.Tensor
    ) -> EncoderOutput:
        """A padded batch of entries as the encoder's output, in float32.

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
        frames = frames.float()
        hidden = {k: frames[:, :, i] for i, k in enumerate(self.blocks)}
        return EncoderOutput(hidden, lengths)

    @torch.no_grad()
    def _encode(self, signals):
        """Waveforms [S] → hidden states [T, K, D] of each."""
        device = next(self.encoder.parameters()).device
        lengths = torch.tensor([len(signal) for signal in signals])
        wavs = pad_sequence(list(map(torch.from_numpy, signals)), True)
        encoded = self.encoder(wavs.to(device), lengths, self.blocks)
        states = [encoded.hidden_states[k] for k in self.blocks]
        stacked = torch.stack(states, dim=2).cpu().numpy()  # [B, T, K, D]
        sizes = encoded.lengths.tolist()
        return [x[:size] for x, size in zip(stacked, sizes, strict=True)]

    def _write(self, wav, frames):
        """Write the entry of a file, complete or not at all."""
        if self.pooled:
            frames = frames.astype(np.float64)
            moments = [frames.mean(axis=0), frames.std(axis=0)]
            frames = np.concatenate(moments, axis=-1)
        with replacing(self._path(wav)) as partial:
            np.save(partial, frames.astype(self.dtype))

    def _check_space(self, wavs):
        """Raise CacheError now rather than when the disk is full."""
        rows: float = 2 * len(wavs)
        if not self.pooled:
            rows = sum(audio_seconds(wav) or 0.0 for wav in wavs)
            rows /= FRAME_SECONDS
        width = len(self.blocks) * self.encoder.d_model * self.dtype.itemsize
        needed = rows * width
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise CacheError(
                f"{self.folder}: the encoder's output for {len(wavs)} files "
                f"takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
                "free there. Give a cache_folder on a larger disk, "
                "cache_dtype float16 for half of it, or cache_folder null to "
                "run the encoder every epoch."
            )

    def _path(self, wav):
        """The entry's name follows the file's place, size and change time."""
        return self.folder / f"{identity(wav)}.npy"

    def _key(self):
        """A name that follows the encoder, the blocks and the dtype."""
        kind, config = type(self.encoder).__name__, self.encoder.config
        facts = (FORMAT, kind, config, self.blocks, self.dtype.str)
        digest = hashlib.sha256(repr(facts).encode())
        for name, value in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16] + ("-pooled" if self.pooled else "")

"""Sound in the formats that people have, encoded on the spot."""

import tracemalloc

import av
import numpy as np

from qieemo_sb.audio import read_windows


def peak_of(call, *arguments):
    """Most bytes that Python holds during a call."""
    tracemalloc.start()
    call(*arguments)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used


def hear(path):
    """Read a file by windows, and keep none."""
    for _ in read_windows(path):
        pass


def encode(path, samples, rate, codec, channels=1, video=False):
    """Write samples [S] float32, perhaps with a black video → path."""
    layout = "stereo" if channels == 2 else "mono"
    with av.open(str(path), "w") as file:
        # Streams first, then packets: the header has to know them all.
        pictures = video and file.add_stream("mpeg4", rate=25)
        sound = samples is not None and file.add_stream(
            codec, rate=rate, layout=layout
        )
        packets = []
        if pictures:
            pictures.width = pictures.height = 32
            black = np.zeros((32, 32, 3), np.uint8)
            for i in range(25):
                frame = av.VideoFrame.from_ndarray(black, format="rgb24")
                frame.pts = i
                packets += pictures.encode(frame)
            packets += pictures.encode(None)
        if sound:
            sound.bit_rate = 96_000 if rate > 8_000 else 12_200
            data = np.tile(samples[:, None], (1, channels)).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(data, "flt", layout)
            frame.sample_rate, frame.pts = rate, 0
            sound.codec_context.open()
            resampler = av.AudioResampler(
                sound.codec_context.format,
                layout,
                rate,
                sound.codec_context.frame_size or 1_024,
            )
            frames = [*resampler.resample(frame), *resampler.resample(None)]
            for piece in [*frames, None]:
                packets += sound.encode(piece)
        file.mux(packets)
    return path

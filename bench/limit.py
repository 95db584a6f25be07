#!/usr/bin/env python3
"""Speed of the encoder, compared with the machine's matrix products.

Measures the machine's matrix products at the encoder's own shapes, with MKL as
torch uses it and with oneDNN as a served model uses it, counts the operations
of a clip, and prints the share of each rate that the whole encoder, samples to
hidden states, reaches: log-mel, norms, softmax and copies count as time, and
not as work.

> python bench/limit.py --whisper openai/whisper-base --wavs DIR

Authors
 * The Qieemo-SB authors 2026
"""

import timing
import torch

from qieemo_sb.encoders.whisper import WhisperEncoder
from qieemo_sb.frames import num_frames
from qieemo_sb.serving.onednn import OneDNNLinear, accelerate

BATCH = 16
LIMITS = ("MKL", "oneDNN")


def main(arguments=None):
    options = timing.parser(__doc__.partition("\n")[0]).parse_args(arguments)
    about = timing.start(options)
    clips = sorted(timing.make_clips(options.clips, options.wavs), key=len)
    encoder = WhisperEncoder(source=options.whisper)
    work = sum(operations(encoder.dims, len(clip)) for clip in clips)
    products = {
        "MKL": Products(encoder.dims, clips),
        "oneDNN": Products(encoder.dims, clips, OneDNNLinear),
    }
    with torch.no_grad():
        times = timing.alternate(
            products | encoders(encoder, clips), [None], options.repeats
        )
    done = {name: products[name].work for name in products}
    rates = {
        name: spread([done.get(name, work) / wall for wall in measured.wall])
        for name, measured in times.items()
    }
    results = {"operations_a_clip": work / len(clips), "rates": rates}
    show(results)
    timing.write(options, about, results)


def layers(dims):
    """(inputs, outputs, rows a frame, how often) of the matrix products."""
    width, inner = dims["d_model"], dims["ffn_dim"]
    return [
        (3 * dims["n_mels"], width, 2, 1),  # first convolution: 10 ms frames
        (3 * width, width, 1, 1),
        (width, width, 1, 4 * dims["n_blocks"]),
        (width, inner, 1, dims["n_blocks"]),
        (inner, width, 1, dims["n_blocks"]),
    ]


def operations(dims, samples):
    """Multiplications and additions of matrix products for a clip."""
    frames = int(num_frames(samples))
    linear = sum(2 * i * o * rows * n for i, o, rows, n in layers(dims))
    attention = dims["n_blocks"] * 4 * frames * dims["d_model"]
    return frames * (linear + attention)


class Products:
    """The matrix products that a batch of clips needs, and nothing else."""

    def __init__(self, dims, clips, kind=lambda layer: layer):
        frames = sum(int(num_frames(len(clip))) for clip in clips)
        self.steps, self.work = [], 0
        for inputs, outputs, rows, count in layers(dims):
            layer = torch.nn.Linear(inputs, outputs).requires_grad_(False)
            x = torch.randn(rows * frames, inputs)
            self.steps += [(kind(layer), x)] * count
            self.work += 2 * x.numel() * outputs * count

    def __call__(self, _):
        for layer, x in self.steps:
            layer(x)


def encoders(encoder, clips):
    """{name: call} of the encoder, plain and as it is served."""
    served = WhisperEncoder(dims=encoder.dims)
    served.load_state_dict(encoder.state_dict())
    accelerate(served)
    last = [encoder.n_blocks]

    def encode(which, size):
        for i in range(0, len(clips), size):
            which(*timing.pad(clips[i : i + size]), last)

    return {
        f"{name}, batch {size}": lambda _, w=which, s=size: encode(w, s)
        for size in (1, BATCH)
        for name, which in (("plain", encoder), ("served", served))
    }


def spread(rates):
    """Median, least and most, of operations a second."""
    ordered = sorted(rates)
    middle = ordered[len(ordered) // 2]
    return {"median": middle, "least": ordered[0], "most": ordered[-1]}


def show(results):
    rates = results["rates"]
    print(f"a clip needs {results['operations_a_clip'] / 1e9:.2f} GFLOP")
    rows = []
    for name, rate in rates.items():
        billions = [f"{rate[k] / 1e9:.0f}" for k in ("median", "least", "most")]
        shares = [
            f"{rate['median'] / rates[limit]['median']:.0%}" for limit in LIMITS
        ]
        rows.append([name, "{} ({} to {})".format(*billions), *shares])
    timing.table(["", "GFLOP/s", *(f"of {name}'s" for name in LIMITS)], rows)


if __name__ == "__main__":
    main()

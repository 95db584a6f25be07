#!/usr/bin/env python3
"""How close the encoder is to what the machine can do.

Measures the machine's matrix products at the encoder's own shapes, with MKL
as torch uses it and with oneDNN as a served model uses it, counts what a clip
needs, and tells the share of each rate that the whole way from samples to
hidden states reaches: log-mel, norms, softmax and copies count as time, and
not as work.

> python bench/limit.py --whisper openai/whisper-base --wavs DIR

Authors
 * The Qieemo-SB authors 2026
"""

import timing
import torch

from qieemo_sb.encoders.whisper import WhisperEncoder
from qieemo_sb.frames import num_frames
from qieemo_sb.linear import Linear, speed_up

BATCH = 16


def main(arguments=None):
    options = timing.parser(__doc__.partition("\n")[0]).parse_args(arguments)
    about = timing.start(options)
    clips = timing.make_clips(options.clips, options.wavs)
    encoder = WhisperEncoder(source=options.whisper)
    work = sum(operations(encoder.dims, len(clip)) for clip in clips)
    with torch.no_grad():
        rates = matrix_rates(encoder.dims, clips, options.repeats)
        reached = encoder_rates(encoder, clips, work, options.repeats)
    results = {
        "operations_a_clip": work / len(clips),
        "matrix_products": rates,
        "encoder": reached,
    }
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


def matrix_rates(dims, clips, repeats):
    """Operations a second at the shapes of a batch of all clips."""
    frames = sum(int(num_frames(len(clip))) for clip in clips)
    spent = {"MKL": [0.0] * repeats, "oneDNN": [0.0] * repeats}
    work = 0
    for inputs, outputs, rows, count in layers(dims):
        x = torch.randn(rows * frames, inputs)
        mine = Linear(inputs, outputs).requires_grad_(False)
        torchs = torch.nn.Linear(inputs, outputs)
        times = timing.alternate({"MKL": torchs, "oneDNN": mine}, [x], repeats)
        work += 2 * x.numel() * outputs * count
        for name, measured in times.items():
            for i, wall in enumerate(measured.wall):
                spent[name][i] += count * wall
    return {name: spread([work / s for s in x]) for name, x in spent.items()}


def encoder_rates(encoder, clips, work, repeats):
    """Operations a second of the encoder, plain and as it is served."""
    served = WhisperEncoder(dims=encoder.dims)
    served.load_state_dict(encoder.state_dict())
    speed_up(served)
    last = [encoder.n_blocks]
    contestants = {
        "plain": lambda clips: encoder(*timing.pad(clips), last),
        "served": lambda clips: served(*timing.pad(clips), last),
    }
    clips = sorted(clips, key=len)
    reached = {}
    for size in (1, BATCH):
        batches = [clips[i : i + size] for i in range(0, len(clips), size)]
        for name, measured in timing.alternate(
            contestants, batches, repeats
        ).items():
            rates = [work / wall for wall in measured.wall]
            reached[f"{name}, batch {size}"] = spread(rates)
    return reached


def spread(rates):
    """Median, least and most, of operations a second."""
    ordered = sorted(rates)
    middle = ordered[len(ordered) // 2]
    return {"median": middle, "least": ordered[0], "most": ordered[-1]}


def show(results):
    rates = results["matrix_products"]
    print(f"a clip needs {results['operations_a_clip'] / 1e9:.2f} GFLOP")
    rows = []
    for name, rate in (*rates.items(), *results["encoder"].items()):
        billions = [f"{rate[k] / 1e9:.0f}" for k in ("median", "least", "most")]
        shares = [
            f"{rate['median'] / limit['median']:.0%}"
            for limit in rates.values()
        ]
        rows.append([name, "{} ({} to {})".format(*billions), *shares])
    timing.table(["", "GFLOP/s", *(f"of {name}'s" for name in rates)], rows)


if __name__ == "__main__":
    main()

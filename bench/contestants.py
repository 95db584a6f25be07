"""Ours and its peers on the same Whisper: samples in memory → an answer.

qieemo               Qieemo in torch
qieemo-bf16          ... its encoder's products in bfloat16
qieemo-onnx*         Qieemo as exported, run by onnxruntime
qieemo-encoder       our encoder, an average over frames, a linear layer
speechbrain          SpeechBrain's Whisper lobe, an average, a layer
transformers         transformers' audio-classification pipeline
ctranslate2-*-30s    CTranslate2's encoder, padded as faster-whisper does
ctranslate2-*        the same without padding
openvino-*           plain Whisper's encoder converted by OpenVINO, the same

Each is a class with a name, a set-up and a call on a list of waveforms, and
gives the class of each. To add one, write a class and put it on the list.

Authors
 * The Qieemo-SB authors 2026
"""

import tempfile
from pathlib import Path

import numpy
import torch
from timing import make_clips, pad
from torch.nn.functional import gelu, scaled_dot_product_attention
from torch.nn.functional import pad as pad_end
from transformers import (
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    WhisperModel,
    pipeline,
)

from qieemo_sb.encoders.whisper import LogMel, WhisperEncoder
from qieemo_sb.frames import SAMPLE_RATE, WINDOW_FRAMES, num_frames
from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.lobes.fusion import CMA, MMF
from qieemo_sb.lobes.pooling import AttentiveStatisticsPooling, BlockStatistics
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.model import Qieemo
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.onednn import accelerate

EMOTIONS = ["ang", "hap", "neu", "sad"]
N_TOKENS, WIDTH = 29, 96  # as the recipe's


def make_model(whisper, trainable_above=None):
    """A Qieemo as the recipe builds it, untrained."""
    encoder = WhisperEncoder(source=whisper, trainable_above=trainable_above)
    last = encoder.n_blocks
    blocks = list(range(2, last)) or [1]
    statistics = BlockStatistics(blocks, encoder.d_model)
    shape = {"n_tokens": N_TOKENS, "d_model": encoder.d_model, "width": WIDTH}
    return Qieemo(
        encoder=encoder,
        mixer=BlockMixer(blocks, encoder.d_model),
        ppg_head=PPGHead(encoder.d_model, N_TOKENS, context=1),
        mmf=MMF(**shape),
        cma=CMA(**shape),
        pooling=AttentiveStatisticsPooling(WIDTH),
        block_statistics=statistics,
        classifier=Classifier(
            [2 * WIDTH, statistics.embedding_width], len(EMOTIONS)
        ),
    )


def save_untrained(whisper, folder):
    """The model folder of an untrained Qieemo."""
    return save_model(folder, make_model(whisper).eval(), "", EMOTIONS)


class OurModel:
    """The whole of Qieemo: blocks, PPG, MMF, CMA, pooling, classifier."""

    name, bf16 = "qieemo", False

    def __init__(self, whisper, threads):
        with tempfile.TemporaryDirectory() as folder:
            model = save_untrained(whisper, Path(folder) / "model")
            self.classifier = load_model(model, bf16=self.bf16)

    def __call__(self, clips):
        embedding = self.classifier.embed_batch(*pad(clips))
        return self.classifier.log_probs(embedding).argmax(-1)


class OurModelBF16(OurModel):
    """The same with the encoder's linear layers in bfloat16."""

    name, bf16 = "qieemo-bf16", True


class Exported:
    """The whole of Qieemo, exported."""

    int8 = False

    def __init__(self, whisper, threads):
        from qieemo_sb.serving.onnx.classifier import OnnxClassifier
        from qieemo_sb.serving.onnx.export import export_onnx

        with tempfile.TemporaryDirectory() as folder:
            model = save_untrained(whisper, Path(folder) / "model")
            exported = Path(folder) / "exported"
            export_onnx(model, exported, int8=self.int8)
            self.classifier = OnnxClassifier.from_folder(exported, threads)

    def __call__(self, clips):
        return self.classifier.classify_batch([c.numpy() for c in clips])[2]


class Int8(Exported):
    """The same with linear layers in int8."""

    name, int8 = "qieemo-onnx-int8", True


class Float32(Exported):
    """The same in float32."""

    name = "qieemo-onnx"


class OurEncoder:
    """Our encoder and what the peers have on top: an average, a layer."""

    name = "qieemo-encoder"

    def __init__(self, whisper, threads):
        self.encoder = accelerate(WhisperEncoder(source=whisper))
        self.head = torch.nn.Linear(self.encoder.d_model, len(EMOTIONS))

    @torch.no_grad()
    def __call__(self, clips):
        last = self.encoder.n_blocks
        encoded = self.encoder(*pad(clips), [last])
        means = encoded.hidden_states[last].sum(1) / encoded.lengths[:, None]
        return self.head(means).argmax(-1)


class SpeechBrainLobe:
    """SpeechBrain's Whisper lobe, an average, a layer."""

    name = "speechbrain"

    def __init__(self, whisper, threads, freeze=True):
        from speechbrain.integrations.huggingface.whisper import Whisper

        with tempfile.TemporaryDirectory() as folder:
            self.lobe = Whisper(
                whisper, folder, encoder_only=True, freeze=freeze
            )
        self.lobe.train(not freeze)
        width = self.lobe.model.config.d_model
        self.head = torch.nn.Linear(width, len(EMOTIONS))

    def logits(self, clips):
        return self.head(self.lobe(pad(clips)[0]).mean(dim=1))

    @torch.no_grad()
    def __call__(self, clips):
        return self.logits(clips).argmax(-1)


class TransformersPipeline:
    """transformers' audio-classification pipeline."""

    name = "transformers"

    def __init__(self, whisper, threads):
        whole = WhisperModel.from_pretrained(whisper, dtype=torch.float32)
        whole.config.num_labels = len(EMOTIONS)
        model = WhisperForAudioClassification(whole.config)
        model.encoder = whole.encoder
        self.pipeline = pipeline(
            "audio-classification",
            model=model.eval(),
            feature_extractor=WhisperFeatureExtractor(
                model.config.num_mel_bins
            ),
            device="cpu",
        )

    def __call__(self, clips):
        inputs = [
            {"raw": clip.numpy(), "sampling_rate": SAMPLE_RATE}
            for clip in clips
        ]
        return self.pipeline(inputs, top_k=1, batch_size=len(clips))


class CTranslate2:
    """CTranslate2's encoder with our log-mel, an average, a layer."""

    compute_type, padded = "float32", True

    def __init__(self, whisper, threads):
        from ctranslate2 import StorageView
        from ctranslate2.converters import TransformersConverter
        from ctranslate2.models import Whisper

        with tempfile.TemporaryDirectory() as folder:
            converted = Path(folder) / "converted"
            TransformersConverter(whisper).convert(str(converted))
            self.model = Whisper(
                str(converted),
                compute_type=self.compute_type,
                intra_threads=threads,
            )
        self.view = StorageView.from_array
        self.log_mel = LogMel(self.model.n_mels)
        config = WhisperModel.config_class.from_pretrained(whisper)
        self.head = torch.nn.Linear(config.d_model, len(EMOTIONS))

    @torch.no_grad()
    def __call__(self, clips):
        mel = self.log_mel(*pad(clips))
        if self.padded:  # as faster-whisper does
            mel = pad_end(mel, (0, 2 * WINDOW_FRAMES - mel.shape[2]))
        view = self.view(mel.contiguous().numpy())
        frames = numpy.asarray(self.model.encode(view, to_cpu=True))
        means = [
            torch.from_numpy(own[: num_frames(len(clip))]).mean(dim=0)
            for own, clip in zip(frames, clips, strict=True)
        ]
        return self.head(torch.stack(means)).argmax(-1)


def ctranslate2(compute_type, padded):
    """One of CTranslate2's contestants."""
    members = {
        "name": f"ctranslate2-{compute_type}" + ("-30s" if padded else ""),
        "compute_type": compute_type,
        "padded": padded,
    }
    return type("CTranslate2", (CTranslate2,), members)


class PlainEncoder(torch.nn.Module):
    """Whisper's encoder for any length, an average, a layer."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(encoder.d_model, len(EMOTIONS))

    def forward(self, mel):
        """[1, n_mels, M] → [1, C]."""
        encoder = self.encoder
        x = gelu(encoder.conv2(gelu(encoder.conv1(mel)))).transpose(1, 2)
        x = x + encoder.positions.weight[: x.shape[1]]
        for block in encoder.blocks:
            streams = (
                y.unflatten(-1, (block.self_attn.num_heads, -1)).transpose(1, 2)
                for y in block.before_attention(x)
            )
            attended = scaled_dot_product_attention(*streams, scale=1.0)
            x = block.after_attention(x, attended.transpose(1, 2).flatten(2))
        return self.head(encoder.norm(x).mean(1))


class OpenVINO:
    """OpenVINO on a plain encoder, with our log-mel; clip by clip.

    Calibrated on noise: int8 is measured for its speed alone.
    """

    int8, products = False, "f32"

    def __init__(self, whisper, threads):
        import openvino

        encoder = WhisperEncoder(source=whisper)
        self.log_mel = encoder.log_mel
        mel = torch.zeros(1, encoder.dims["n_mels"], 100)
        frames = torch.export.Dim("M", min=3, max=2 * WINDOW_FRAMES)
        with torch.no_grad():
            graph = torch.export.export(
                PlainEncoder(encoder),
                (mel,),
                dynamic_shapes=({2: frames},),
                # Otherwise it would have to be proven for one frame, too.
                prefer_deferred_runtime_asserts_over_guards=True,
            )
        graph = openvino.convert_model(graph)
        graph.reshape([1, mel.shape[1], -1])
        if self.int8:
            import nncf

            clips = make_clips(16)
            graph = nncf.quantize(
                graph,
                nncf.Dataset([self.log_mel(*pad([c])).numpy() for c in clips]),
                model_type=nncf.ModelType.TRANSFORMER,
            )
        options = {
            "INFERENCE_PRECISION_HINT": self.products,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.model = openvino.compile_model(graph, "CPU", options)

    @torch.no_grad()
    def __call__(self, clips):
        mels = [self.log_mel(*pad([clip])).contiguous() for clip in clips]
        return [self.model(mel.numpy())[0].argmax() for mel in mels]


def open_vino(int8, products):
    """One of OpenVINO's contestants."""
    weights = "int8" if int8 else "float32"
    members = {
        "name": f"openvino-{weights}" + ("-bf16" if products == "bf16" else ""),
        "int8": int8,
        "products": products,
    }
    return type("OpenVINO", (OpenVINO,), members)


CONTESTANTS = [
    OurModel,
    OurModelBF16,
    Float32,
    Int8,
    OurEncoder,
    SpeechBrainLobe,
    TransformersPipeline,
    ctranslate2("float32", padded=True),
    ctranslate2("int8", padded=True),
    ctranslate2("float32", padded=False),
    ctranslate2("int8", padded=False),
    *(open_vino(int8, x) for int8 in (False, True) for x in ("f32", "bf16")),
]


def enter(whisper, threads, names=None):
    """{name: contestant} of those asked for and installed."""
    entered = {}
    for contestant in CONTESTANTS:
        if names is not None and contestant.name not in names:
            continue
        try:
            entered[contestant.name] = contestant(whisper, threads)
        except ImportError as error:
            print(f"{contestant.name} is left out: {error}.")
    return entered

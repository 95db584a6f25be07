"""The graph's answers are those of the torch model, at any length."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import AttributeProto

from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.fusion import MMF, Concatenation
from qieemo_sb.lobes.pooling import AttentiveStatisticsPooling
from qieemo_sb.lobes.ppg import PPGHead
from qieemo_sb.serving.onnx.model import ExportError, build_onnx

CLOSE = 1e-4


def analyse(graph, signal):
    """All outputs of a graph, by name."""
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    results = session.run(names, {"wav": signal[None].numpy()})
    return dict(zip(names, results, strict=True))


def assert_same(found, expected, tolerance=CLOSE):
    for name in ("log_probs", "embedding", "ppg"):
        value = getattr(expected, name)
        if value is None:
            assert name not in found
            continue
        assert found[name].shape == value.shape
        assert np.abs(found[name] - value.numpy()).max() < tolerance


def nodes(graph):
    """Those of inner graphs, too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from nodes(attribute.g)


@torch.no_grad()
@pytest.mark.parametrize(
    "samples",
    [400, 480, 8_160, 52_345, 479_999, 480_000, 480_001, 480_159, 480_160]
    + [960_100, 1_000_001],
)
def test_any_length(make_model, stir, sound, samples):
    model, signal = stir(make_model()), sound(samples)
    assert_same(analyse(build_onnx(model), signal), model(signal[None]))


@torch.no_grad()
@pytest.mark.parametrize("samples", [16_000, 500_000])
def test_any_part_may_be_left_out(make_model, stir, sound, variant, samples):
    model, signal = stir(make_model(**variant)), sound(samples)
    assert_same(analyse(build_onnx(model), signal), model(signal[None]))


@torch.no_grad()
@pytest.mark.parametrize(
    "parts",
    [
        {"mixer": BlockMixer([2], 16)},
        {"mixer": BlockMixer([0, 3], 16)},
        {"mmf": Concatenation(29, 16, 12)},
        {"ppg_head": PPGHead(16, 29, hidden=8, context=1)},
        {"ppg_head": PPGHead(16, 29, hidden=8, context=7)},
    ],
    ids=["one-block", "first-and-last", "named-join", "frame", "seven-frames"],
)
def test_other_parts(make_model, stir, sound, parts):
    model, signal = stir(make_model(**parts)), sound(16_000)
    assert_same(analyse(build_onnx(model), signal), model(signal[None]))


def test_weights_matter(make_model, stir, sound):
    # Else the tests above would compare constants.
    signal = sound(16_000)
    fresh = analyse(build_onnx(make_model()), signal)
    stirred = analyse(build_onnx(stir(make_model())), signal)
    other = analyse(build_onnx(stir(make_model())), sound(16_000, seed=2))
    for name, value in stirred.items():
        assert np.abs(value - fresh[name]).max() > 100 * CLOSE
        assert np.abs(value - other[name]).max() > 100 * CLOSE


def test_blocks_above_the_highest_are_left_out(make_model):
    parts = {"ppg_head": None, "mmf": None, "cma": None}
    model = make_model(mixer=BlockMixer([1], 16), **parts)
    every = build_onnx(make_model(mixer=BlockMixer([3], 16), **parts))
    assert len(list(nodes(build_onnx(model).graph))) < len(
        list(nodes(every.graph))
    )


def test_float32_is_plain_onnx(make_model):
    graph = build_onnx(make_model())
    onnx.checker.check_model(graph, full_check=True)
    assert {node.domain for node in nodes(graph.graph)} == {""}


# int8


@torch.no_grad()
@pytest.mark.parametrize("samples", [400, 16_000, 500_000])
def test_int8_is_near(make_model, stir, sound, variant, samples):
    model, signal = stir(make_model(**variant)), sound(samples)
    found = analyse(build_onnx(model, int8=True), signal)
    expected = model(signal[None])
    found.pop("ppg", None)
    expected.ppg = None
    assert_same(found, expected, tolerance=0.1)


def test_int8_of_silence(make_model):
    for value in analyse(
        build_onnx(make_model(), int8=True), torch.zeros(16_000)
    ).values():
        assert np.isfinite(value).all()


def test_int8_weights_take_a_quarter(make_model):
    kinds = {}
    for int8 in (False, True):
        body = next(
            a.g
            for node in build_onnx(make_model(), int8).graph.node
            for a in node.attribute
            if a.type == AttributeProto.GRAPH
        )
        # Matrices, but for the Fourier transform, the filters and positions.
        kinds[int8] = [
            constant.data_type
            for constant in body.initializer
            if len(constant.dims) == 2 and constant.dims[0] < 400
            if constant.dims[0] > 1 and constant.dims[1] > 1
        ]
    assert set(kinds[False]) == {onnx.TensorProto.FLOAT}
    assert kinds[True].count(onnx.TensorProto.INT8) == len(kinds[True])


# What cannot be exported


class OtherHead(PPGHead):
    pass


class OtherMMF(MMF):
    pass


class OtherPooling(AttentiveStatisticsPooling):
    pass


@pytest.mark.parametrize(
    "parts, name",
    [
        ({"ppg_head": OtherHead(16, 29)}, "OtherHead"),
        ({"mmf": OtherMMF(29, 16, 12)}, "OtherMMF"),
        ({"pooling": OtherPooling(12)}, "OtherPooling"),
    ],
)
def test_part_without_an_onnx_form(make_model, parts, name):
    with pytest.raises(ExportError, match=f"{name} has no ONNX form yet"):
        build_onnx(make_model(**parts))


def test_model_that_only_reads(make_model):
    parts = ("mixer", "mmf", "cma", "pooling", "classifier")
    reader = make_model(**dict.fromkeys(parts))
    with pytest.raises(ExportError, match="only reads cannot be exported"):
        build_onnx(reader)

"""A faster linear layer gives torch's results, whatever is done to it."""

import copy
import io

import pytest
import torch
from torch.nn.functional import linear

from qieemo_sb.encoders.whisper import LinearGELU
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.onednn import OneDNNLinear, accelerate, has_bfloat16


@pytest.fixture
def layer():
    return OneDNNLinear(torch.nn.Linear(48, 64)).requires_grad_(False)


def close(a, b, tolerance=1e-5):
    return a.shape == b.shape and (a - b).abs().max() < tolerance


def plain(layer, x):
    return linear(x, layer.weight, layer.bias)


@pytest.mark.parametrize("shape", [(5, 48), (1, 48), (48,), (2, 3, 48)])
def test_equals_torch(layer, shape):
    x = torch.randn(shape)
    assert close(layer(x), plain(layer, x))


def test_equals_torch_with_gelu_and_without_bias():
    x = torch.randn(5, 48)
    for kind in (torch.nn.Linear, LinearGELU):
        for bias in (True, False):
            theirs = kind(48, 64, bias).requires_grad_(False)
            assert close(OneDNNLinear(theirs)(x), theirs(x))


@pytest.mark.skipif(not has_bfloat16(), reason="a processor without")
def test_products_in_bfloat16(sound):
    exact, fast = load_model("open"), load_model("open", bf16=True)
    exact, fast = (
        c.log_probs(c.embed_batch(sound(32_000))) for c in (exact, fast)
    )
    assert fast.dtype == torch.float32
    assert 0 < (fast - exact).abs().max() < 0.1


def test_no_rows(layer):
    assert layer(torch.zeros(0, 48)).shape == (0, 64)


@pytest.mark.parametrize("rows", [1, 2, 3, 31, 64])
def test_a_row_does_not_depend_on_others(layer, rows):
    x = torch.randn(100, 48)
    assert close(layer(x[:rows]), layer(x)[:rows], 1e-6)


def test_columns_need_not_be_contiguous(layer):
    x = torch.randn(48, 5).T
    assert close(layer(x), plain(layer, x))


@pytest.mark.parametrize(
    "change", ["in place", "loaded", "replaced", "elsewhere"]
)
def test_changed_weights_are_seen(layer, change):
    x = torch.randn(5, 48)
    layer(x)
    if change == "in place":
        with torch.no_grad():
            layer.weight.mul_(2)
    elif change == "loaded":
        layer.load_state_dict(torch.nn.Linear(48, 64).state_dict())
    elif change == "replaced":
        layer.weight = torch.nn.Parameter(torch.randn(64, 48), False)
    else:
        for _ in range(20):  # memory that is free is soon used again
            layer.weight.data = layer.weight.data * 1.1
            assert close(layer(x), plain(layer, x))
    assert close(layer(x), plain(layer, x))


def test_weights_that_train_get_gradients():
    layer = OneDNNLinear(LinearGELU(48, 64))
    layer(torch.randn(5, 48)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_gradients_pass_through_frozen_weights(layer):
    x = torch.randn(5, 48, requires_grad=True)
    layer(x).sum().backward()
    expected = layer.weight.sum(dim=0).expand(5, -1)
    assert close(x.grad, expected)


def test_autocast_rules(layer):
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(5, 48)).dtype == torch.bfloat16


def test_other_precisions(layer):
    x = torch.randn(5, 48)
    expected = layer(x)
    doubles = layer.double()(x.double())
    assert doubles.dtype == torch.float64
    assert close(doubles.float(), expected)
    assert torch.equal(layer.float()(x), expected)


def test_inference_tensors():
    with torch.inference_mode():
        layer = OneDNNLinear(torch.nn.Linear(48, 64)).requires_grad_(False)
        x = torch.randn(5, 48)
        assert close(layer(x), plain(layer, x))


@pytest.mark.parametrize("way", ["copied", "saved"])
def test_used_layers_travel(layer, way):
    x = torch.randn(5, 48)
    expected = layer(x)
    if way == "copied":
        other = copy.deepcopy(layer)
    else:
        stream = io.BytesIO()
        torch.save(layer, stream)
        stream.seek(0)
        other = torch.load(stream, weights_only=False)
    assert torch.equal(other(x), expected)


def test_parameters_and_names_stay():
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.Linear(4, 2))
    ).eval()
    before = dict(model.named_parameters())
    accelerate(accelerate(model))  # once more changes nothing
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is value for name, value in before.items())
    assert type(model[0]) is type(model[1][0]) is OneDNNLinear
    assert not model[0].training

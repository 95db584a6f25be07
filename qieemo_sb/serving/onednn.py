"""Linear layers at the processor's own speed, for weights that are final.

On x86, torch multiplies float32 matrices with MKL, which on AMD's processors
reaches less than half of the rate of oneDNN, which torch contains too. oneDNN
wants the weights laid out its own way: that pays where they stay as they are.
Results differ from MKL's by float32 rounding, as they do from one processor
to another.
"""

from typing import TypeVar

import torch
from torch.nn import functional as F  # noqa: N812

from qieemo_sb.encoders.whisper import LinearGELU

Module = TypeVar("Module", bound=torch.nn.Module)


class OneDNNLinear(torch.nn.Linear):
    """``torch.nn.Linear`` with an optional GELU, faster where it can be.

    Frozen weights in float32 on an x86 processor are kept a second time, in
    oneDNN's layout, from their first use on. Everything else (training,
    autocast, a GPU, a compiler) computes as ``torch.nn.Linear`` does. A row's
    result does not depend on the other rows. Weights that change are laid out
    anew, unless they are written to behind torch's back, through ``.data``.

    Arguments
    ---------
    layer : torch.nn.Linear or LinearGELU
        Its parameters are shared.
    dtype : torch.dtype
        Of products: float32, or bfloat16 where the processor has it.

    Example
    -------
    >>> layer = torch.nn.Linear(3, 2).requires_grad_(False)
    >>> x = torch.randn(5, 3)
    >>> torch.allclose(OneDNNLinear(layer)(x), layer(x), atol=1e-6)
    True
    """

    def __init__(
        self, layer: torch.nn.Linear, dtype: torch.dtype = torch.float32
    ):
        bias = layer.bias is not None
        super().__init__(
            layer.in_features, layer.out_features, bias, device="meta"
        )
        self.weight, self.bias = layer.weight, layer.bias
        self.gelu = isinstance(layer, LinearGELU)
        self.dtype = dtype
        self._packed = None  # (weights' version, weights, oneDNN's layout)
        self.train(layer.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in_features] → [..., out_features]."""
        if not self._can_pack(x):
            y = F.linear(x, self.weight, self.bias)
            return F.gelu(y) if self.gelu else y
        rows = x.reshape(-1, self.in_features)
        size = len(rows)
        # oneDNN adds up a single row in another order than it does many.
        rows = rows if size > 1 else rows.expand(2, -1)
        kind, variant = ("gelu", "none") if self.gelu else ("none", "")
        bias = None if self.bias is None else self.bias.to(self.dtype)
        y = torch.ops.mkldnn._linear_pointwise(
            rows.to(self.dtype), self._pack(), bias, kind, [], variant
        )
        return y[:size].float().view(*x.shape[:-1], -1)

    def _can_pack(self, x):
        """True if oneDNN can take this input and these weights."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        weight = self.weight
        return (
            has_onednn()
            and x.numel() > 0
            and x.device.type == weight.device.type == "cpu"
            and x.dtype == weight.dtype == torch.float32
            and not weight.requires_grad
            and not (x.requires_grad and torch.is_grad_enabled())
            and not weight.is_inference()  # has no count of its changes
            and not torch.is_autocast_enabled("cpu")
        )

    def _pack(self):
        """The weights in oneDNN's layout, laid out again when they change."""
        version = (self.weight.data_ptr(), self.weight._version)
        if self._packed is None or self._packed[0] != version:
            packed = torch.ops.mkldnn._reorder_linear_weight(
                self.weight.to(self.dtype)
            )
            # Held, so that no other weights come to lie at their address.
            self._packed = (version, self.weight.detach(), packed)
        return self._packed[2]

    def _apply(self, *args, **kwargs):
        self._packed = None  # the weights move or change their type
        return super()._apply(*args, **kwargs)

    def __getstate__(self):
        return {**self.__dict__, "_packed": None}


def accelerate(module: Module, dtype: torch.dtype = torch.float32) -> Module:
    """Put a ``OneDNNLinear`` in the place of each linear layer of a module.

    Arguments
    ---------
    module : torch.nn.Module
        Changed in place; its parameters and their names stay.
    dtype : torch.dtype
        As of ``OneDNNLinear``; layers replaced before keep theirs.

    Returns
    -------
    torch.nn.Module
        The module.

    Example
    -------
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GELU())
    >>> type(accelerate(model)[0]).__name__
    'OneDNNLinear'
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is torch.nn.Linear or type(child) is LinearGELU:
                setattr(parent, name, OneDNNLinear(child, dtype))
    return module


def has_onednn() -> bool:
    """True if this torch has oneDNN's packed product for this processor."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def has_bfloat16() -> bool:
    """True if this processor multiplies bfloat16 itself (AVX512-BF16)."""
    return has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()

"""Linear layers at the processor's own speed, for weights that are final.

On x86, torch multiplies float32 matrices with MKL, which on AMD's processors
reaches less than half of what oneDNN, also inside torch, reaches there.
oneDNN wants the weights laid out its own way, which pays where they stay as
they are: in a model that is served. Results differ from MKL's by float32
rounding, as they do from one processor to another.
"""

import torch
from torch.nn import functional as F  # noqa: N812


class Linear(torch.nn.Linear):
    """``torch.nn.Linear`` with an optional GELU, faster where it can be.

    Frozen weights in float32 on an x86 processor are kept a second time, in
    oneDNN's layout, from their first use on. Everything else (training,
    autocast, a GPU, a compiler) computes as ``torch.nn.Linear`` does. A row's
    result does not depend on the other rows. Weights that change are laid out
    anew, unless they are written to behind torch's back, through ``.data``.

    Arguments
    ---------
    in_features, out_features, bias, device, dtype
        As of ``torch.nn.Linear``.

    Example
    -------
    >>> linear = Linear(3, 2).requires_grad_(False)
    >>> x = torch.randn(5, 3)
    >>> expected = torch.nn.functional.linear(x, linear.weight, linear.bias)
    >>> torch.allclose(linear(x), expected, atol=1e-6)
    True
    """

    _packed = None  # (which weights, they as they are, in oneDNN's layout)

    @classmethod
    def like(cls, layer: torch.nn.Linear) -> "Linear":
        """Make one that shares the parameters of another linear layer."""
        shape = (layer.in_features, layer.out_features)
        made = cls(*shape, layer.bias is not None, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        return made.train(layer.training)

    def forward(self, x: torch.Tensor, gelu: bool = False) -> torch.Tensor:
        """Multiply, add the bias, and apply an exact GELU if asked for.

        Arguments
        ---------
        x : torch.Tensor
            [..., in_features].
        gelu : bool
            Whether the GELU follows.

        Returns
        -------
        torch.Tensor
            [..., out_features].
        """
        if not self._can_pack(x):
            y = F.linear(x, self.weight, self.bias)
            return F.gelu(y) if gelu else y
        rows = x.reshape(-1, self.in_features)
        size = len(rows)
        # oneDNN adds up a single row in another order than it does many.
        rows = rows if size > 1 else rows.expand(2, -1)
        activation = ("gelu", [], "none") if gelu else ("none", [], "")
        y = torch.ops.mkldnn._linear_pointwise(
            rows, self._pack(), self.bias, *activation
        )
        return y[:size].view(*x.shape[:-1], -1)

    def _can_pack(self, x):
        """Whether oneDNN can take this input and these weights."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        weight = self.weight
        return (
            _has_onednn()
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
        which = (self.weight.data_ptr(), self.weight._version)
        if self._packed is None or self._packed[0] != which:
            packed = torch.ops.mkldnn._reorder_linear_weight(self.weight)
            # Held, so that no other weights come to lie at their address.
            self._packed = (which, self.weight.detach(), packed)
        return self._packed[2]

    def _apply(self, *args, **kwargs):
        self._packed = None  # the weights move or change their type
        return super()._apply(*args, **kwargs)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_packed"}


def speed_up(module: torch.nn.Module) -> None:
    """Put a ``Linear`` in the place of each ``torch.nn.Linear`` of a module.

    Arguments
    ---------
    module : torch.nn.Module
        Changed in place; its parameters and their names stay.

    Example
    -------
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GELU())
    >>> speed_up(model)
    >>> type(model[0]) is Linear
    True
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is torch.nn.Linear:
                setattr(parent, name, Linear.like(child))


def linear_gelu(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """``layer`` and an exact GELU, in one go if ``layer`` can do so.

    Arguments
    ---------
    layer : torch.nn.Linear
        A ``Linear`` or torch's own.
    x : torch.Tensor
        [..., in_features].

    Returns
    -------
    torch.Tensor
        [..., out_features].
    """
    if isinstance(layer, Linear):
        return layer(x, gelu=True)
    return F.gelu(layer(x))


def _has_onednn():
    """Whether this torch has oneDNN's packed product for this processor."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )

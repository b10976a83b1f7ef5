"""torch.nn modules called on traced values: their parameters are constants, values and Hessians are torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hesse
from conformance.cases import normal, torch
from conformance.test_against_torch import as_tuple, close
from hesse import functional

pytestmark = [
    pytest.mark.skipif(torch is None, reason="torch is compared with; it is an optional peer"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*"),
]


def modules() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Name -> (module, shape of its input)."""
    if torch is None:
        return {}
    nn = torch.nn
    torch.manual_seed(0)
    made = {
        "Linear": (nn.Linear(4, 3), (2, 4)),
        "Sequential": (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2), nn.Softplus()), (2, 4)),
        "Bilinear": (Pair(nn.Bilinear(4, 4, 3)), (2, 4)),
        "LayerNorm": (nn.LayerNorm(4), (2, 4)),
        "RMSNorm": (nn.RMSNorm(4), (2, 4)),
        "GroupNorm": (nn.GroupNorm(2, 4), (2, 4, 3)),
        "InstanceNorm1d": (nn.InstanceNorm1d(4, affine=True), (2, 4, 3)),
        "BatchNorm1d-eval": (nn.BatchNorm1d(4).eval(), (3, 4)),
        "BatchNorm1d-batch": (nn.BatchNorm1d(4, track_running_stats=False), (3, 4)),
        "Conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (1, 4, 5)),
        "Conv1d-circular": (nn.Conv1d(4, 2, 3, padding=1, padding_mode="circular"), (1, 4, 5)),
        "Conv2d": (nn.Conv2d(2, 3, (2, 3), padding="same"), (1, 2, 3, 4)),
        "ConvTranspose1d": (nn.ConvTranspose1d(4, 2, 3, stride=2), (1, 4, 3)),
        "MaxPool1d": (nn.MaxPool1d(2), (1, 2, 6)),
        "AvgPool2d": (nn.AvgPool2d(2), (1, 2, 4, 4)),
        "AdaptiveAvgPool1d": (nn.AdaptiveAvgPool1d(2), (1, 2, 5)),
        "MultiheadAttention": (Attention(nn.MultiheadAttention(4, 2).eval()), (3, 2, 4)),
        "MultiheadAttention-first": (Attention(nn.MultiheadAttention(4, 2, batch_first=True).eval()), (2, 3, 4)),
        "MultiheadAttention-unbatched": (Attention(nn.MultiheadAttention(4, 2, bias=False).eval()), (3, 4)),
        "Upsample": (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 1, 2, 3)),
        "Flatten": (nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True)), (2, 3, 2)),
        "GLU": (nn.GLU(), (2, 4)),
        "Dropout-eval": (nn.Dropout(0.5).eval(), (2, 3)),
        "PReLU": (nn.PReLU(), (2, 3)),
        "Softmax": (nn.Softmax(-1), (2, 3)),
        "Unfold": (nn.Unfold(2), (1, 2, 3, 3)),
        "ConstantPad1d": (nn.ConstantPad1d((1, 2), 3.0), (1, 2, 3)),
        "ReflectionPad2d": (nn.ReflectionPad2d(1), (1, 1, 3, 3)),
        "PixelShuffle": (nn.PixelShuffle(2), (1, 4, 2, 2)),
        "MSELoss": (Against(nn.MSELoss(), torch.ones(2, 3).double()), (2, 3)),
        "CrossEntropyLoss": (Against(nn.CrossEntropyLoss(label_smoothing=0.1), torch.tensor([1, 0])), (2, 3)),
        "NLLLoss": (Against(nn.NLLLoss(), torch.tensor([1, 0])), (2, 3)),
        "BCEWithLogitsLoss": (Against(nn.BCEWithLogitsLoss(), torch.ones(2, 3).double()), (2, 3)),
        "HuberLoss": (Against(nn.HuberLoss(), torch.ones(2, 3).double()), (2, 3)),
        "KLDivLoss": (Against(nn.KLDivLoss(reduction="batchmean"), torch.ones(2, 3).double() / 3), (2, 3)),
        "TransformerEncoderLayer": (nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), (1, 3, 4)),
    }
    return {name: (module.double(), shape) for name, (module, shape) in made.items()}


class Against:
    """A loss against a constant target."""

    def __init__(self, loss: Any, target: Any) -> None:
        self.loss, self.target = loss, target

    def double(self) -> Against:
        return self

    def __call__(self, x: Any) -> Any:
        return self.loss(x, self.target)


class Pair(Against):
    def __init__(self, module: Any) -> None:
        self.module = module.double()

    def __call__(self, x: Any) -> Any:
        return self.module(x, x * x)


class Attention(Pair):
    def __call__(self, x: Any) -> Any:
        return self.module(x, x * 0.5, x + 1.0)


MODULES = modules()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_a_traced_input_is_torchs(name: str) -> None:
    module, shape = MODULES[name]
    x = torch.from_numpy(np.array(normal(*shape)))
    ours, theirs = hesse.function(lambda x: module(x))(x), module(x.clone())
    for a, b in zip(as_tuple(ours), as_tuple(theirs), strict=True):
        close(a, b.detach(), 1e-9)

    def total(x: Any) -> Any:
        y = as_tuple(module(x * 1.0))[0]
        return (y * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).reshape(y.shape)).sum()

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the fused one has no second derivative
        expected = torch.autograd.functional.hessian(total, x)
    close(functional.hessian(total, x), expected, 1e-7)


def test_a_batch_norm_that_would_update_its_statistics_is_refused() -> None:
    layer = torch.nn.BatchNorm1d(4).double()
    with pytest.raises(hesse.HesseError, match="running statistics"):
        hesse.function(lambda x: layer(x))(torch.ones(3, 4, dtype=torch.float64))

"""torch.nn.functional: convolutions, pooling, padding, interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.cases import Case, normal
from oracles import Array

LINE, PLANE, SOLID = normal(2, 4, 7), normal(2, 2, 5, 4), normal(1, 2, 3, 4, 3)
KERNEL, BIAS = normal(6, 4, 3, seed=1), normal(6, seed=2)
TIES = np.array([[[1.0, 1.0, 2.0, 2.0, 0.0, 2.0, 1.0]]])


def nn(t: Any) -> Any:
    return t.nn.functional


def conv(name: str, *inputs: Array, **options: Any) -> Case:
    label = "-".join([name, *[f"{k}{v}".replace(" ", "") for k, v in options.items()]])
    return Case(label, lambda t, *x: getattr(nn(t), name)(*x, **options), inputs)


CONVOLUTIONS: list[Case] = [
    conv("conv1d", LINE, KERNEL),
    conv("conv1d", LINE, KERNEL, BIAS, stride=2, padding=1),
    conv("conv1d", LINE, KERNEL, padding="same", dilation=2),
    conv("conv1d", LINE, KERNEL, padding="valid"),
    conv("conv1d", LINE, normal(6, 2, 3, seed=1), BIAS, groups=2, padding=2, dilation=2),
    conv("conv1d", normal(4, 7), KERNEL, BIAS),
    conv("conv1d", LINE, normal(4, 1, 2, seed=1), groups=4, padding="same"),
    conv("conv2d", PLANE, normal(3, 2, 3, 2, seed=1)),
    conv("conv2d", PLANE, normal(3, 2, 3, 2, seed=1), normal(3, seed=2), stride=(2, 1), padding=(1, 0)),
    conv("conv2d", PLANE, normal(4, 1, 2, 2, seed=1), groups=2, padding="same"),
    conv("conv2d", PLANE, normal(2, 2, 2, 2, seed=1), dilation=(2, 1)),
    conv("conv3d", SOLID, normal(2, 2, 2, 2, 2, seed=1), normal(2, seed=2), padding=1, stride=2),
    conv("conv_transpose1d", LINE, normal(4, 3, 3, seed=1), normal(3, seed=2)),
    conv("conv_transpose1d", LINE, normal(4, 3, 3, seed=1), stride=2, padding=1, output_padding=1),
    conv("conv_transpose1d", LINE, normal(4, 3, 2, seed=1), groups=2, dilation=3, padding=4),
    conv("conv_transpose2d", PLANE, normal(2, 3, 2, 3, seed=1), normal(3, seed=2), stride=(2, 1), padding=(0, 1)),
    conv("conv_transpose3d", SOLID, normal(2, 1, 2, 2, 2, seed=1), stride=2),
    conv("unfold", PLANE, kernel_size=(2, 3)),
    conv("unfold", PLANE, kernel_size=2, dilation=2, padding=1, stride=2),
    conv("fold", normal(2, 12, 8), output_size=(5, 4), kernel_size=(2, 3)),
    conv("fold", normal(2, 8, 6), output_size=(5, 4), kernel_size=2, dilation=2, padding=1, stride=2),
    Case("unfold-method", lambda t, x: x.unfold(1, 3, 2), (normal(2, 7),)),
    Case("pixel_shuffle", lambda t, x: nn(t).pixel_shuffle(x, 2), (normal(2, 8, 2, 3),)),
    Case("pixel_unshuffle", lambda t, x: nn(t).pixel_unshuffle(x, 2), (normal(2, 2, 4, 6),)),
    Case("channel_shuffle", lambda t, x: t.channel_shuffle(x, 2), (normal(2, 4, 2, 3),)),
]

POOLING: list[Case] = [
    conv("avg_pool1d", LINE, kernel_size=3),
    conv("avg_pool1d", LINE, kernel_size=3, stride=2, padding=1),
    conv("avg_pool1d", LINE, kernel_size=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    conv("avg_pool1d", LINE, kernel_size=2, ceil_mode=True),
    conv("avg_pool2d", PLANE, kernel_size=2),
    conv("avg_pool2d", PLANE, kernel_size=(3, 2), stride=2, padding=(1, 1), ceil_mode=True),
    conv("avg_pool2d", PLANE, kernel_size=2, stride=1, divisor_override=3),
    conv("avg_pool2d", PLANE[0], kernel_size=2, padding=1, count_include_pad=False),
    conv("avg_pool3d", SOLID, kernel_size=2, stride=1),
    conv("max_pool1d", LINE, kernel_size=3),
    conv("max_pool1d", TIES, kernel_size=3, stride=1),
    conv("max_pool1d", TIES, kernel_size=3, stride=2, padding=1, dilation=2),
    conv("max_pool1d", LINE, kernel_size=2, ceil_mode=True, return_indices=True),
    conv("max_pool2d", PLANE, kernel_size=2),
    conv("max_pool2d", PLANE, kernel_size=(3, 2), stride=1, padding=1, return_indices=True),
    conv("max_pool2d", PLANE, kernel_size=3, stride=2, padding=1, ceil_mode=True, return_indices=True),
    conv("max_pool3d", SOLID, kernel_size=2, stride=1),
    conv("lp_pool1d", LINE, norm_type=2, kernel_size=3),
    conv("lp_pool2d", PLANE, norm_type=4, kernel_size=2, stride=1),
    conv("adaptive_avg_pool1d", LINE, output_size=3),
    conv("adaptive_avg_pool2d", PLANE, output_size=(3, None)),
    conv("adaptive_avg_pool2d", PLANE, output_size=1),
    conv("adaptive_avg_pool3d", SOLID, output_size=2),
    conv("adaptive_max_pool1d", LINE, output_size=3, return_indices=True),
    conv("adaptive_max_pool2d", PLANE, output_size=(3, 3)),
    conv("adaptive_max_pool2d", PLANE, output_size=(2, 3), return_indices=True),
]

PADDING: list[Case] = [
    conv("pad", PLANE, pad=(1, 2)),
    conv("pad", PLANE, pad=(1, 2, 0, 3), value=2.5),
    conv("pad", PLANE, pad=(-1, 2, 1, -1)),
    conv("pad", PLANE, pad=(1, 0, 0, 0, 1, 1)),
    *[conv("pad", PLANE, pad=(1, 2, 3, 0), mode=m) for m in ("reflect", "replicate", "circular")],
    *[conv("pad", LINE, pad=(3, 2), mode=m) for m in ("reflect", "replicate", "circular")],
    conv("pad", LINE, pad=(-1, 2), mode="replicate"),
    conv("pad", SOLID, pad=(1, 1, 2, 1, 0, 1), mode="replicate"),
]


def resized(rank: int, **options: Any) -> Case:
    x = {1: LINE, 2: PLANE, 3: SOLID}[rank]
    return conv("interpolate", x, **options)


INTERPOLATION: list[Case] = [
    resized(1, size=5), resized(1, scale_factor=2.0), resized(2, scale_factor=1.5), resized(3, size=(2, 5, 4)),
    resized(1, size=5, mode="nearest-exact"), resized(1, size=10, mode="linear"),
    resized(1, size=10, mode="linear", align_corners=True), resized(2, size=(3, 7), mode="bilinear"),
    resized(2, scale_factor=1.7, mode="bilinear"), resized(2, scale_factor=(1.7, 0.6), mode="bilinear",
                                                           recompute_scale_factor=True),
    resized(2, size=(3, 7), mode="bicubic"), resized(2, size=(3, 7), mode="bicubic", align_corners=True),
    resized(3, size=(4, 5, 2), mode="trilinear"), resized(2, size=(3, 2), mode="area"),
]

CASES: list[Case] = [*CONVOLUTIONS, *POOLING, *PADDING, *INTERPOLATION]

"""Products, and arithmetic with torch's own signatures."""

from __future__ import annotations

import numpy as np

from conformance.cases import Case, normal, positive

A, B, C = normal(3, 4), normal(4, 2, seed=1), normal(2, 3, 4)
X, Y, Z = normal(3, 4), normal(3, 4, seed=1), positive(3, 4, seed=2)

PRODUCTS: list[Case] = [
    Case("matmul", lambda t, a, b: t.matmul(a, b), (A, B)),
    Case("matmul-batch", lambda t, a, b: a @ b, (C, B)),
    Case("matmul-vector", lambda t, a, b: a.matmul(b), (C, normal(4))),
    Case("mm", lambda t, a, b: t.mm(a, b), (A, B)),
    Case("mv", lambda t, a, b: a.mv(b), (A, normal(4))),
    Case("bmm", lambda t, a, b: t.bmm(a, b), (C, normal(2, 4, 2))),
    Case("dot", lambda t, a, b: t.dot(a, b), (normal(4), normal(4, seed=1))),
    Case("vdot", lambda t, a, b: t.vdot(a, b), (normal(4), normal(4, seed=1))),
    Case("inner", lambda t, a, b: t.inner(a, b), (A, normal(2, 4))),
    Case("outer", lambda t, a, b: t.outer(a, b), (normal(3), normal(4))),
    Case("ger", lambda t, a, b: a.ger(b), (normal(3), normal(4))),
    Case("kron", lambda t, a, b: t.kron(a, b), (A, normal(2, 2))),
    Case("cross", lambda t, a, b: t.linalg.cross(a, b), (normal(2, 3), normal(2, 3, seed=1))),
    Case("cross-dim", lambda t, a, b: t.cross(a, b, dim=0), (normal(3, 2), normal(3, 2, seed=1))),
    Case("vecdot", lambda t, a, b: t.linalg.vecdot(a, b), (X, Y)),
    Case("tensordot", lambda t, a, b: t.tensordot(a, b, dims=1), (A, B)),
    Case("tensordot-dims", lambda t, a, b: t.tensordot(a, b, dims=([1, 0], [0, 2])), (A, normal(4, 2, 3))),
    Case("tensordot-lists", lambda t, a, b: t.tensordot(a, b, ([-1], [0])), (A, B)),
    Case("tensordot-tensor", lambda t, a, b: t.tensordot(a, b, dims=t.tensor([[1], [0]])), (A, B)),
    Case("einsum", lambda t, a, b: t.einsum("ij,jk->ik", a, b), (A, B)),
    Case("einsum-list", lambda t, a, b: t.einsum("...i,ij->...j", [a, b]), (C, B)),
    Case("einsum-sublists", lambda t, a, b: t.einsum(a, [0, 1], b, [1, 2], [0, 2]), (A, B)),
    Case("einsum-sublists-implicit", lambda t, a, b: t.einsum(a, [0, 1], b, [1, 2]), (A, B)),
    Case("einsum-sublists-ellipsis", lambda t, a, b: t.einsum(a, [..., 1], b, [1, 2], [2, ...]), (C, B)),
    Case("chain_matmul", lambda t, a, b: t.chain_matmul(a, b, b.t()), (A, B)),
    Case("multi_dot", lambda t, a, b: t.linalg.multi_dot([a, b, b.t()]), (A, B)),
    Case("matrix_power", lambda t, a: t.matrix_power(a, 3), (normal(3, 3),)),
    Case("addmm", lambda t, x, a, b: t.addmm(x, a, b, beta=0.5, alpha=2), (normal(3, 2), A, B)),
    Case("addmv", lambda t, x, a, b: t.addmv(x, a, b), (normal(3), A, normal(4))),
    Case("addr", lambda t, x, a, b: t.addr(x, a, b, beta=2, alpha=0.5), (A, normal(3), normal(4))),
    Case("addbmm", lambda t, x, a, b: t.addbmm(x, a, b, alpha=0.5), (normal(3, 2), C, normal(2, 4, 2))),
    Case("baddbmm", lambda t, x, a, b: t.baddbmm(x, a, b, beta=2), (normal(2, 3, 2), C, normal(2, 4, 2))),
    Case("baddbmm-broadcast", lambda t, x, a, b: t.baddbmm(x, a, b), (normal(3, 1), C, normal(2, 4, 2))),
]

ARITHMETIC: list[Case] = [
    Case("add", lambda t, x, y: t.add(x, y, alpha=2.5), (X, Y)),
    Case("add-scalar", lambda t, x: x.add(2) + x.__radd__(1), (X,)),
    Case("sub", lambda t, x, y: t.sub(x, y, alpha=0.5), (X, Y)),
    Case("subtract", lambda t, x, y: x.subtract(y), (X, Y)),
    Case("rsub", lambda t, x, y: t.rsub(x, y, alpha=2), (X, Y)),
    Case("mul", lambda t, x, y: t.mul(x, y) * x.mul(3), (X, Y)),
    Case("multiply", lambda t, x, y: t.multiply(x, y), (X, Y)),
    Case("div", lambda t, x, y: t.div(x, y), (X, Z)),
    Case("true_divide", lambda t, x, y: t.true_divide(x, y), (X, Z)),
    Case("pow", lambda t, x: t.pow(x, 3) + x.pow(2.0) + x**4, (X,)),
    Case("pow-tensor", lambda t, x, y: t.pow(x, y), (Z, X)),
    Case("pow-base", lambda t, x: t.pow(2.0, x) + 3**x, (X,)),
    Case("float_power", lambda t, x: t.float_power(x, 1.5), (Z,)),
    Case("neg", lambda t, x: t.neg(x) + x.negative(), (X,)),
    Case("abs", lambda t, x: t.abs(x) + x.absolute(), (X,)),
    Case("sign", lambda t, x: t.sign(x) * x, (X,)),
    Case("square", lambda t, x: t.square(x), (X,)),
    Case("sqrt", lambda t, x: t.sqrt(x), (Z,)),
    Case("rsqrt", lambda t, x: t.rsqrt(x), (Z,)),
    Case("reciprocal", lambda t, x: t.reciprocal(x), (Z,)),
    Case("clamp", lambda t, x: t.clamp(x, -0.5, 0.5), (X,)),
    Case("clamp-min", lambda t, x: x.clamp(min=0.25), (X,)),
    Case("clamp-tensor", lambda t, x, y: t.clamp(x, max=y), (X, Y)),
    Case("clamp_min", lambda t, x: x.clamp_min(0), (X,)),
    Case("clamp_max", lambda t, x: t.clamp_max(x, 0.5), (X,)),
    Case("clip", lambda t, x: t.clip(x, -0.5), (X,)),
    Case("addcmul", lambda t, x, y, z: t.addcmul(x, y, z, value=2), (X, Y, Z)),
    Case("addcdiv", lambda t, x, y, z: t.addcdiv(x, y, z, value=0.5), (X, Y, Z)),
    Case("lerp", lambda t, x, y: t.lerp(x, y, 0.25), (X, Y)),
    Case("lerp-tensor", lambda t, x, y, w: x.lerp(y, w), (X, Y, Z)),
    Case("ldexp", lambda t, x, k: t.ldexp(x, k), (X, np.array([1, -2, 3, 0])),
         differs={"gradient": "torch raises 2 to -2 in integers on the way back, which is 0"}),
    Case("ldexp-float", lambda t, x, k: t.ldexp(x, k), (X, normal(4, seed=3))),
    Case("masked_fill", lambda t, x, m: x.masked_fill(m, 2.0) * x, (X, X > 0)),
]

CASES: list[Case] = [*PRODUCTS, *ARITHMETIC]

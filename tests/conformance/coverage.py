"""The functions that people use most, in the order of their use on GitHub, and which of them are left out and why."""

from __future__ import annotations

# pytorch's count of uses in repositories, mathematics only; constants (zeros, ones, eye, arange) are torch's to make
MOST_USED = [
    "cat", "max", "stack", "sum", "mean", "exp", "min", "sigmoid", "log", "matmul", "clamp", "sqrt", "abs", "tanh",
    "bmm", "pow", "norm", "mm", "unsqueeze", "where", "mul", "sort", "squeeze", "add", "transpose", "split", "gather",
    "sin", "cos", "div", "index_select", "flatten", "einsum", "round", "floor", "reshape", "diag", "chunk", "std",
    "triu", "tril", "dot", "sign", "cumsum", "dist", "flip", "atan", "var", "prod", "erf", "inverse", "addmm",
    "logsumexp", "mv", "ger", "outer", "atan2", "ceil", "acos", "rsqrt", "svd", "unbind", "log1p", "cross", "log10",
    "log2", "det", "qr", "symeig", "trace", "median", "addcmul", "remainder", "lgamma", "repeat_interleave", "fmod",
    "reciprocal", "tan", "take", "cholesky", "diag_embed", "lerp", "asin", "trunc", "diagonal", "cosh", "cumprod",
    "roll", "narrow", "digamma", "square", "sinh", "solve", "logdet", "expm1", "cdist", "tensordot", "erfinv",
    "addcdiv", "pinverse", "erfc", "triangular_solve", "slogdet", "cholesky_solve", "matrix_power", "mvlgamma",
    "polygamma",
]
MOST_USED_NEURAL = [
    "softmax", "relu", "pad", "log_softmax", "normalize", "cross_entropy", "one_hot", "mse_loss", "softplus",
    "linear", "gelu", "nll_loss", "leaky_relu", "cosine_similarity", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "l1_loss", "elu", "smooth_l1_loss", "pairwise_distance", "logsigmoid",
    "kl_div", "huber_loss", "silu", "layer_norm",
]

# torch itself has no such function any more, or answers with an error that names another one
GONE = {
    "symeig": "removed from torch: linalg.eigh is its successor, and has a case",
    "solve": "removed from torch: linalg.solve is its successor, and has a case",
}
# names under which a case stands where the function lies in a namespace of torch
SUCCESSORS = {"symeig": "eigh", "solve": "solve"}

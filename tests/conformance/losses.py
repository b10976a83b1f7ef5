"""torch.nn.functional's losses and distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.cases import Case, normal, positive
from oracles import Array

A, B = normal(3, 4), normal(3, 4, seed=1)
TIES = np.array([0.0, 0.5, 1.0, -1.0, 2.0, -3.0]), np.zeros(6)
SIGNS = np.array([1, -1, 1, -1, -1, 1])
REDUCTIONS = ("mean", "sum", "none")


def nn(t: Any) -> Any:
    return t.nn.functional


def loss(name: str, f: Callable[..., Any], *inputs: Array, once: str = "", **differs: str) -> list[Case]:
    """f(F, *inputs, reduction=...) with every reduction; `once`: what torch cannot differentiate twice."""
    return [Case(f"{name}-{r}", lambda t, *x, r=r: f(nn(t), *x, reduction=r), inputs, differs=differs,
                 order=1 if once else 2, reason=once and f"torch: derivative for aten::{once} is not implemented")
            for r in REDUCTIONS]


# torch's forward over reverse has the curvature 1 at |d| = delta, its reverse over reverse 0
AT_DELTA = {"hessian": "torch's reverse over reverse has the curvature 0 at delta; ours is its forward over reverse's"}


REGRESSION: list[Case] = [
    *loss("mse_loss", lambda F, x, y, **r: F.mse_loss(x, y, **r), A, B),
    *loss("mse_loss-weight", lambda F, x, y, w, **r: F.mse_loss(x, y, weight=w, **r), A, B, positive(3, 4)),
    *loss("l1_loss", lambda F, x, y, **r: F.l1_loss(x, y, **r), A, B),
    *loss("l1_loss-ties", lambda F, x, y, **r: F.l1_loss(x, y, **r), *TIES),
    *loss("smooth_l1_loss", lambda F, x, y, **r: F.smooth_l1_loss(x, y, **r), *TIES),
    *loss("smooth_l1_loss-beta", lambda F, x, y, **r: F.smooth_l1_loss(x, y, beta=0.5, **r), *TIES),
    *loss("smooth_l1_loss-zero", lambda F, x, y, **r: F.smooth_l1_loss(x, y, beta=0.0, **r), *TIES),
    *loss("huber_loss", lambda F, x, y, **r: F.huber_loss(x, y, **r), *TIES, **AT_DELTA),
    *loss("huber_loss-delta", lambda F, x, y, **r: F.huber_loss(x, y, delta=0.5, **r), *TIES, **AT_DELTA),
    *loss("huber_loss-weight", lambda F, x, y, w, **r: F.huber_loss(x, y, weight=w, **r), *TIES, positive(6),
          **AT_DELTA),
    *loss("poisson_nll_loss", lambda F, x, y, **r: F.poisson_nll_loss(x, y, **r), A, positive(3, 4)),
    *loss("poisson_nll_loss-full", lambda F, x, y, **r: F.poisson_nll_loss(x, y, log_input=False, full=True, **r),
          positive(3, 4, seed=1), positive(3, 4)),
    *loss("gaussian_nll_loss", lambda F, x, y, v, **r: F.gaussian_nll_loss(x, y, v, **r), A, B, positive(3, 4)),
    *loss("gaussian_nll_loss-full", lambda F, x, y, v, **r: F.gaussian_nll_loss(x, y, v, full=True, **r), A, B,
          positive(3)),
    *loss("gaussian_nll_loss-bound", lambda F, x, y, v, **r: F.gaussian_nll_loss(x, y, v, eps=0.5, **r),
          normal(3), normal(3, seed=1), np.array([0.25, 0.5, 2.0])),
]

LOGITS = np.array([[0.5, -30.0, 30.0], [0.0, 2.0, -1.5]])
LABELS = np.array([[1.0, 0.0, 1.0], [0.0, 0.25, 0.75]])
CLAMPED = {"gradient": "torch takes (p - t)/max(p (1 - p), 1e-12) for the slope where p is 0 or 1; ours is 0 there",
           "hessian": "as the gradient"}
TWO: list[Case] = [
    *loss("binary_cross_entropy", lambda F, p, y, **r: F.binary_cross_entropy(p, y, **r),
          np.array([0.1, 0.5, 0.9]), np.array([1.0, 0.3, 0.0])),
    *loss("binary_cross_entropy-weight", lambda F, p, y, w, **r: F.binary_cross_entropy(p, y, w.detach(), **r),
          np.array([0.1, 0.5, 0.9]), np.array([1.0, 0.3, 0.0]), positive(3)),
    *loss("binary_cross_entropy-bounds", lambda F, p, y, **r: F.binary_cross_entropy(p, y, **r),
          np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 1.0]), **CLAMPED),
    *loss("binary_cross_entropy_with_logits", lambda F, x, y, **r: F.binary_cross_entropy_with_logits(x, y, **r),
          LOGITS, LABELS),
    *loss("binary_cross_entropy_with_logits-weights", lambda F, x, y, w, q, **r: F.binary_cross_entropy_with_logits(
        x, y, w.detach(), pos_weight=q.detach(), **r), LOGITS, LABELS, positive(2, 1), positive(3)),
    *loss("soft_margin_loss", lambda F, x, y, **r: F.soft_margin_loss(x, y, **r), normal(6), SIGNS),
    *loss("hinge_embedding_loss", lambda F, x, y, **r: F.hinge_embedding_loss(x, y, **r), TIES[0], SIGNS),
    *loss("hinge_embedding_loss-margin", lambda F, x, y, **r: F.hinge_embedding_loss(x, y, margin=0.5, **r), TIES[0],
          SIGNS),
    *loss("margin_ranking_loss", lambda F, x, y, s, **r: F.margin_ranking_loss(x, y, s, **r), *TIES, SIGNS),
    *loss("margin_ranking_loss-margin", lambda F, x, y, s, **r: F.margin_ranking_loss(x, y, s, margin=1.0, **r), *TIES,
          SIGNS),
]

CLASSES, IGNORED = np.array([2, 0, 3]), np.array([2, -100, 3])
SHARES = np.array([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
IMAGE, PIXELS = normal(2, 4, 3, seed=2), np.array([[0, 1, 3], [2, -100, 0]])
W = positive(4)
MANY = np.array([[0, 2, -1, 1], [3, -1, 0, 1], [1, 0, 2, 3]])
CLASSIFICATION: list[Case] = [
    *loss("nll_loss", lambda F, x, t, **r: F.nll_loss(x, t, **r), A, CLASSES),
    *loss("nll_loss-weight", lambda F, x, t, w, **r: F.nll_loss(x, t, w.detach(), ignore_index=0, **r), A, CLASSES, W),
    *loss("nll_loss-ignored", lambda F, x, t, **r: F.nll_loss(x, t, **r), A, IGNORED),
    *loss("nll_loss-pixels", lambda F, x, t, w, **r: F.nll_loss(x, t, w.detach(), **r), IMAGE, PIXELS, W),
    Case("nll_loss-vector", lambda t, x: nn(t).nll_loss(x, t.tensor(1)), (normal(4),)),
    *loss("cross_entropy", lambda F, x, t, **r: F.cross_entropy(x, t, **r), A, CLASSES),
    *loss("cross_entropy-weight", lambda F, x, t, w, **r: F.cross_entropy(x, t, w.detach(), **r), A, IGNORED, W),
    *loss("cross_entropy-smooth", lambda F, x, t, **r: F.cross_entropy(x, t, label_smoothing=0.2, **r), A, IGNORED),
    *loss("cross_entropy-smooth-weight", lambda F, x, t, w, **r: F.cross_entropy(
        x, t, w.detach(), label_smoothing=0.2, **r), A, IGNORED, W),
    *loss("cross_entropy-shares", lambda F, x, q, **r: F.cross_entropy(x, q, **r), A, SHARES),
    *loss("cross_entropy-shares-weight", lambda F, x, q, w, **r: F.cross_entropy(x, q, w, label_smoothing=0.1, **r), A,
          SHARES, W),
    *loss("cross_entropy-pixels", lambda F, x, t, w, **r: F.cross_entropy(
        x, t, w.detach(), label_smoothing=0.1, **r), IMAGE, PIXELS, W),
    Case("cross_entropy-vector", lambda t, x: nn(t).cross_entropy(x, t.tensor(1)), (normal(4),)),
    *loss("kl_div", lambda F, x, q, **r: F.kl_div(x, q, **r), A, positive(3, 4)),
    *loss("kl_div-zero", lambda F, x, q, **r: F.kl_div(x, q.detach(), **r), normal(2), np.array([0.0, 1.0])),
    *loss("kl_div-log", lambda F, x, q, **r: F.kl_div(x, q, log_target=True, **r), A, B),
    Case("kl_div-batchmean", lambda t, x, q: nn(t).kl_div(x, q, reduction="batchmean"), (A, positive(3, 4))),
    *loss("multi_margin_loss", lambda F, x, t, **r: F.multi_margin_loss(x, t, **r), A, CLASSES,
          once="multi_margin_loss_backward"),
    *loss("multi_margin_loss-weight", lambda F, x, t, w, **r: F.multi_margin_loss(
        x, t, p=2, margin=0.7, weight=w.detach(), **r), A, CLASSES, W, once="multi_margin_loss_backward"),
    *loss("multilabel_margin_loss", lambda F, x, t, **r: F.multilabel_margin_loss(x, t, **r), A, MANY,
          once="multilabel_margin_loss_backward"),
    *loss("multilabel_soft_margin_loss", lambda F, x, y, w, **r: F.multilabel_soft_margin_loss(x, y, w, **r), A,
          SHARES.round(), W),
]

U, V, Z = normal(3, 4, seed=5), normal(3, 4, seed=6), normal(3, 4, seed=7)
DISTANCES: list[Case] = [
    Case("cosine_similarity", lambda t, x, y: nn(t).cosine_similarity(x, y), (A, B)),
    Case("cosine_similarity-dim", lambda t, x, y: t.cosine_similarity(x, y, dim=0), (A, normal(3, 1, seed=4))),
    *loss("cosine_embedding_loss", lambda F, x, y, s, **r: F.cosine_embedding_loss(x, y, s, **r), U, V,
          np.array([1, -1, -1])),
    *loss("cosine_embedding_loss-margin", lambda F, x, y, s, **r: F.cosine_embedding_loss(x, y, s, margin=0.2, **r), U,
          U + 0.125 * V, np.array([1, -1, -1])),
    Case("pairwise_distance", lambda t, x, y: nn(t).pairwise_distance(x, y), (A, B)),
    Case("pairwise_distance-p", lambda t, x, y: nn(t).pairwise_distance(x, y, p=3.0, keepdim=True), (A, B)),
    *loss("triplet_margin_loss", lambda F, x, y, z, **r: F.triplet_margin_loss(x, y, z, **r), U, V, Z),
    *loss("triplet_margin_loss-swap", lambda F, x, y, z, **r: F.triplet_margin_loss(
        x, y, z, margin=2.0, p=1.0, swap=True, **r), U, V, Z),
    *loss("triplet_margin_with_distance_loss", lambda F, x, y, z, **r: F.triplet_margin_with_distance_loss(
        x, y, z, **r), U, V, Z),
    Case("cdist", lambda t, x, y: t.cdist(x, y), (A, normal(2, 4, seed=4)), order=1,
         reason="torch: derivative for aten::_cdist_backward is not implemented"),
    *[Case(f"cdist-{p}", lambda t, x, y, p=p: t.cdist(x, y, p=p), (A, normal(2, 4, seed=4)), order=1,
           reason="torch: derivative for aten::_cdist_backward is not implemented")
      for p in (0.0, 1.0, 1.5, 3.0, float("inf"))],
    Case("cdist-same", lambda t, x: t.cdist(x, x), (A,), order=1,
         reason="torch: derivative for aten::_cdist_backward is not implemented"),
    *[Case(f"pdist-{p}", lambda t, x, p=p: nn(t).pdist(x, p), (A,), order=1,
           reason="torch: derivative for aten::_pdist_backward is not implemented") for p in (1.0, 2.0, 3.0)],
    Case("dist", lambda t, x, y: t.dist(x, y), (A, B)),
    Case("dist-p", lambda t, x, y: x.dist(y, 3), (A, B)),
    Case("dist-inf", lambda t, x, y: t.dist(x, y, float("inf")), (A, B)),
]

CASES: list[Case] = [*REGRESSION, *TWO, *CLASSIFICATION, *DISTANCES]

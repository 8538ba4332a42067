"""How unlike two models of any size see the same users and items: by relations among users, and by what each item asks for.

Source: Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023,
https://arxiv.org/abs/2303.15678. Users stand for images and items for classes. Their semantic similarity compares channels,
of which teacher and student must have as many; here items are compared, so that any two widths go together.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def gram(rows: Tensor) -> Tensor:
    """[n, d] -> [n, n]: the products of all pairs of rows, each row of products then of length 1 (or 0)."""
    return normalize(rows @ rows.T, dim=1)


def relation_gram(features: Tensor) -> Tensor:
    """[B, B]: the `gram` of users with `features` [B, d], centred over the batch.

    Uncentred, features that were propagated over a graph all point into one direction, and deeper always looks worse.
    """
    return gram(features - features.mean(0))


def class_gradients(scores: Tensor, features: Tensor, positives: Tensor, points: Tensor | None = None) -> Tensor:
    """[n, d]: the gradient of the users' cross-entropy over n items by the items' vectors.

    With D = (P - Y) / B it is D^T F where scores are products <f, v>. Where they are distances, -c |f - v|^2, each item is
    drawn from where it stands, and over 2 c it is D^T F - diag(D^T 1) V.

    Args:
        scores: [B, n] each user's scores of the items; P is their softmax
        features: [B, d] the users' vectors F
        positives: [B] int64, the column of each user's observed item, which Y has; -1 = none, such a user counts for nothing
        points: [n, d] the items' vectors V, where scores are distances
    """
    counted, columns = (positives >= 0).to(scores.dtype)[:, None], positives.clamp(min=0)[:, None]
    difference = scores.softmax(1).scatter_add(1, columns, -torch.ones_like(counted))
    difference = difference * counted / counted.sum().clamp(min=1)
    gradients = difference.T @ features
    return gradients if points is None else gradients - difference.sum(0)[:, None] * points


def semantic_gram(scores: Tensor, features: Tensor, positives: Tensor, points: Tensor | None = None) -> Tensor:
    """[n, n]: the `gram` of the `class_gradients`, whose arguments it takes."""
    return gram(class_gradients(scores, features, positives, points))


def gram_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """[]: |G_S - G_T|^2 / n^2 for [n, n] grams; 0 for equal ones."""
    return (student - teacher).square().mean()

"""Constants that both frameworks and the exporter must agree on."""

import math

FRAMEWORKS = ("torch", "paddle")
"""The frameworks that train, as the command lines and the checkpoints spell them."""

BATCH_NORM_EPSILON = 1e-5
"""BatchNorm's epsilon, the default of both frameworks."""

GEM_EPSILON = 1e-6
"""GeM pooling clamps features to at least this value before the power, as the code of arXiv 1711.02512 does."""

NORM_EPSILON = 1e-12
"""Lower bound of the Euclidean norm by which a vector is divided, so that a zero vector stays zero."""

SQUARED_NORM_EPSILON = 1e-12
"""Lower bound of the *squared* norm, for `tf.math.l2_normalize`, whose epsilon is compared with the sum of squares."""

SINE_EPSILON = 1e-7
"""Lower bound of the squared sine in ArcMargin: the gradient stays finite if a descriptor equals its class weight."""

MOVING_AVERAGE = 0.99
"""Momentum of CurricularFace's mean cosine (arXiv 2004.00288, §3.2)."""


def first_adaptive_scale(classes: int) -> float:
    """The initial scale of AdaCos, √2 · log(classes - 1) with at least 3 classes (arXiv 1905.00292, eq. 12)."""
    return math.sqrt(2) * math.log(max(classes - 1, 2))

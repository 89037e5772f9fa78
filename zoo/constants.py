"""Constants that both frameworks and the exporter must agree on."""

import math

FRAMEWORKS = ("torch", "paddle")

GEM_EPSILON = 1e-6
"""GeM pooling raises smaller features to this value before it takes their power, as arXiv 1711.02512's code does."""

NORM_EPSILON = 1e-12
"""The smallest Euclidean norm that a vector is divided by; a vector of zeros therefore stays zero."""

SQUARED_NORM_EPSILON = 1e-12
"""The smallest *squared* norm, for `tf.math.l2_normalize`, which compares its epsilon with the sum of squares."""

SINE_EPSILON = 1e-7
"""The smallest squared sine in ArcMargin; it keeps the gradient finite if a descriptor equals its class weight."""

MOVING_AVERAGE = 0.99
"""Momentum of CurricularFace's mean cosine (arXiv 2004.00288, §3.2)."""


def first_adaptive_scale(classes: int) -> float:
    """AdaCos' scale before training, √2 · log(classes - 1), of at least 3 classes (arXiv 1905.00292, eq. 12)."""
    return math.sqrt(2) * math.log(max(classes - 1, 2))

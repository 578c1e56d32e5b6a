"""Networks of few bits: quantizers, layers, measurements."""

from __future__ import annotations

from . import micronet
from .comparison import FLOAT32, Form, Row, forms, measured
from .levels import dorefa_activation, dorefa_gradient, dorefa_weight
from .modules import IRBatchNorm2d, checkerboard_padded, thermometer
from .orthogonality import soft_orthogonality
from .post_training import (
    FEWEST,
    MOST,
    SCOPES,
    Half,
    Scope,
    enough_bits,
    require_finite,
    weights_of,
    within,
)
from .quantizers import (
    input_scale,
    libra_sign,
    scaled_sign,
    scaled_sign_diagonal,
    scaled_sign_enlarged,
    sign_clipped,
    sign_ede,
    sign_identity,
    sign_iee,
    sign_stochastic,
    standardised_sign,
)

__all__ = [
    "FEWEST", "FLOAT32", "MOST", "SCOPES", "Form", "Half", "IRBatchNorm2d", "Row", "Scope", "checkerboard_padded",
    "dorefa_activation",
    "dorefa_gradient", "dorefa_weight", "enough_bits", "forms", "input_scale", "libra_sign", "measured", "micronet",
    "require_finite", "scaled_sign", "scaled_sign_diagonal", "scaled_sign_enlarged", "sign_clipped", "sign_ede",
    "sign_identity", "sign_iee", "sign_stochastic", "soft_orthogonality", "standardised_sign", "thermometer",
    "weights_of", "within",
]

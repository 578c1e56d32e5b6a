"""The next ratio to try on one width, by Bayesian optimisation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def derived_seed(seed: int, *labels: object) -> int:
    """A seed of 32 bits that depends on ``seed`` and the labels only."""
    text = "/".join(map(str, (seed, *labels)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def random_ratio(upper: float, seed: int) -> float:
    """A uniformly distributed ratio between 0 and ``upper``."""
    import numpy as np

    return float(np.random.RandomState(seed).uniform(0.0, upper))


def suggest_ratio(points: Sequence[tuple[float, float]], upper: float, seed: int, kappa: float = 2.576) -> float:
    """argmax over [0, upper] of ``mean(r) + kappa * deviation(r)`` of a Gaussian process (Matern 5/2) through the
    ``(ratio, objective)`` points; objectives are to be maximised and must be finite.

    A pure function: the optimizer is built anew from the points each time, so that a search resumed from its ledger
    suggests what the uninterrupted one would have.
    """
    from bayes_opt import BayesianOptimization
    from bayes_opt.acquisition import UpperConfidenceBound

    acquisition = UpperConfidenceBound(kappa=kappa)
    optimizer = BayesianOptimization(None, {"ratio": (0.0, upper)}, acquisition, random_state=seed, verbose=0)
    # the package refuses to register one point twice; a repeated measurement of the same ratio says nothing new
    for ratio, objective in dict(points).items():
        optimizer.register({"ratio": ratio}, objective)
    return float(optimizer.suggest()["ratio"])

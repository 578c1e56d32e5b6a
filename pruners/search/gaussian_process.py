"""The next ratios to try, one for each width or stage at hand, by Bayesian optimisation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

Ratios = tuple[float, ...]


def derived_seed(seed: int, *labels: object) -> int:
    """A seed of 32 bits that depends on ``seed`` and the labels only."""
    text = "/".join(map(str, (seed, *labels)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def random_ratios(n: int, upper: float, seed: int) -> Ratios:
    """``n`` uniformly distributed ratios between 0 and ``upper``."""
    import numpy as np

    return tuple(np.random.RandomState(seed).uniform(0.0, upper, n).tolist())


def suggest_ratios(points: Sequence[tuple[Ratios, float]], upper: float, seed: int, kappa: float = 2.576) -> Ratios:
    """argmax over [0, upper] in each axis of ``mean(r) + kappa * deviation(r)`` of a Gaussian process (Matern 5/2)
    through the ``(ratios, objective)`` points; objectives are to be maximised and must be finite.

    A pure function: the optimizer is built anew from the points each time, so that a search resumed from its ledger
    suggests what the uninterrupted one would have.
    """
    from bayes_opt import BayesianOptimization
    from bayes_opt.acquisition import UpperConfidenceBound

    acquisition = UpperConfidenceBound(kappa=kappa)
    names = [f"ratio{i}" for i in range(len(points[0][0]))]
    bounds = dict.fromkeys(names, (0.0, upper))
    optimizer = BayesianOptimization(None, bounds, acquisition, random_state=seed, verbose=0)
    # the package refuses to register one point twice; a repeated measurement of the same ratios says nothing new
    for ratios, objective in dict(points).items():
        optimizer.register(dict(zip(names, ratios, strict=True)), objective)
    found = optimizer.suggest()
    return tuple(float(found[name]) for name in names)

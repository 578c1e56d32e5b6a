"""From options to the network the user named, with its data, weights and pruner."""

from __future__ import annotations

from .build import Network, check_outputs, network_from
from .inputs import SYNTHETIC, data_of_bundle, inputs_of_bundle, synthetic
from .kinds import binary_form, chosen_kind, kind_in, of_bundle, start_renamed
from .pruner import new_pruner, pruner_class, setup_pruner
from .subject import Foretelling, subject_of_bundle, text_for
from .trained import (
    adjusted,
    chosen_regime,
    execution,
    refuse_divergence,
    served,
    train_network,
    with_trained_weights,
)

__all__ = [
    "SYNTHETIC", "Foretelling", "Network", "adjusted", "binary_form", "check_outputs", "chosen_kind", "chosen_regime",
    "data_of_bundle", "execution", "inputs_of_bundle", "kind_in", "network_from", "new_pruner", "of_bundle",
    "pruner_class", "refuse_divergence", "served", "setup_pruner", "start_renamed", "subject_of_bundle", "synthetic",
    "text_for", "train_network", "with_trained_weights",
]

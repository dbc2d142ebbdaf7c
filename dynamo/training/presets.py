"""Named sets of fit options."""

from typing import Any

from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.options import build_options
from dynamo.training.options import FitOptions

#: ``paper`` is Table 1, the defaults themselves; ``paper-cnn`` is Table 2 with the meta-model of B.3, its base models
#: run live, since the recorded feature maps of one would take 12 GB. ``laptop`` makes a map of some tens of small
#: networks in half a minute on two cores: a smaller meta-model, every base model in every batch, Muon at a higher
#: learning rate than that of θ, and a λ at which the outputs weigh in beside the states. ``laptop-cnn`` does it for
#: images. What these settings do is measured in ``benchmarks/README.md``.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "paper-cnn": {
        "meta_model": "resnet:variant=resnet50",
        "state_map": "conv",
        "hidden_divergence": "l2:reduction=mean",
        "optimizer": "sgd",
        "learning_rate": 0.03,
        "weight_decay": 5e-4,
        "batch_size": 512,
        "steps": 2**16,
        "recording": "live",
    },
    "laptop": {
        "meta_model": "gru:hidden_size=128,embedding_size=256",
        "output_weight": 10.0,
        "models_per_step": None,
        "batch_size": 256,
        "optimizer": "muon",
        "steps": 700,
        "learning_rate": 9e-3,
        "theta_learning_rate": 3e-3,
    },
    "laptop-cnn": {
        "meta_model": "resnet:layers=1+1+1,width=16",
        "state_map": "conv",
        "hidden_divergence": "l2:reduction=mean",
        "models_per_step": None,
        "batch_size": 128,
        "optimizer": "muon",
        "steps": 1000,
        "learning_rate": 1e-2,
    },
}


def preset(name: str, **options: Any) -> FitOptions:
    """Fit options that start from a named set.

    Args:
        name: one of :data:`PRESETS`.
        options: those that shall differ.

    Raises:
        DynamoError: an unknown name, or an unknown or unfit option.

    Example:
        >>> from dynamo import preset
        >>> preset("laptop", steps=300).steps
        300
    """
    if name not in PRESETS:
        raise DynamoError(f"no preset is called {name!r}: {did_you_mean(name, PRESETS)}")
    return build_options(FitOptions, {**PRESETS[name], **options}, where="dynamo fit")

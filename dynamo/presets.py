"""Named sets of fit options."""

from typing import Any

#: ``paper`` is Table 1, the defaults themselves. ``laptop`` makes a map of some tens of small networks in minutes on two
#: cores: a smaller meta-model, every base model in every batch, a higher learning rate, and a λ at which the outputs count
#: for about as much as the states.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "laptop": {
        "meta_model": "gru:hidden_size=128,embedding_size=256",
        "output_weight": 10.0,
        "models_per_step": None,
        "batch_size": 256,
        "steps": 1500,
        "learning_rate": 3e-3,
    },
}

"""The settings of tables that were made before the presets took Muon: those of their AdamW."""

from typing import Any

from dynamo.training.presets import PRESETS

ADAMW: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 3e-3, "theta_learning_rate": None}
LAPTOP: dict[str, Any] = {**PRESETS["laptop"], **ADAMW, "steps": 1500}

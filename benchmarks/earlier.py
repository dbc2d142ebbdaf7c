"""The settings of tables that were made before the preset `laptop` took Muon: those of its AdamW."""

from typing import Any

from dynamo.presets import PRESETS

CHANGES: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 3e-3, "theta_learning_rate": None, "steps": 1500}
LAPTOP: dict[str, Any] = {**PRESETS["laptop"], **CHANGES}

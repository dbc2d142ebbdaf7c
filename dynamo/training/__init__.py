"""The meta-model's training: objective, emulator, trainer, checkpoints, options; and that of base models."""

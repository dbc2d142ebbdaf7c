"""The learning-rate schedule of Tables 1 and 2."""

from math import cos, pi


def cosine_7_32(step: int, steps: int) -> float:
    """The factor on the learning rate, cos(2π·(7/32)·k/K): 1 at the start, 0.195 at the end (Tables 1 and 2)."""
    return cos(2 * pi * (7 / 32) * min(step, steps) / steps)

"""The n-bit flip-flop: the task on which fixed points of recurrent networks are best known.

D. Sussillo and O. Barak, 2013, Opening the Black Box: Low-Dimensional Dynamics in High-Dimensional Recurrent Neural
Networks, Neural Computation 25(3). A network that solves it has 2^n stable fixed points, the corners of a cube.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dynamo import Dataset, Examples, Inputs, InputSpace, OutputSpace

if TYPE_CHECKING:
    from dynamo_datasets import FlipFlopOptions


def flip_flop(options: "FlipFlopOptions") -> Dataset:
    """Pulses in ``[B, T, bits]`` of -1, 0 and +1; the target at every step is the last pulse of each channel.

    The first step carries a pulse on every channel, so that all targets are -1 or +1. Later pulses come independently
    with ``pulse_probability`` and either sign alike.
    """
    generator = np.random.default_rng(options.seed)

    def examples(count: int) -> Examples:
        shape = (count, options.steps, options.bits)
        fires = generator.random(shape) < options.pulse_probability
        fires[:, 0] = True
        signs = generator.choice(np.array([-1, 1], dtype=np.float32), size=shape)
        pulses = np.where(fires, signs, np.float32(0))
        inputs = Inputs(torch.from_numpy(pulses), torch.ones(shape[:2], dtype=torch.bool))
        return Examples(inputs, torch.from_numpy(last_pulse(pulses)))

    outputs = OutputSpace("real", options.bits, readout="every", group="flip-flop")
    train, test = examples(options.train_size), examples(options.test_size)
    return Dataset(InputSpace("real", (options.bits,)), outputs, train, test)


def last_pulse(pulses: NDArray[np.float32]) -> NDArray[np.float32]:
    """The latest pulse of each channel at each step: ``[B, T, bits] -> [B, T, bits]``, zero before the first one."""
    steps = np.arange(pulses.shape[1])[None, :, None]
    latest = np.maximum.accumulate(np.where(pulses != 0, steps, 0), axis=1)
    return np.take_along_axis(pulses, latest, axis=1)

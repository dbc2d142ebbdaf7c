"""The random numbers of a training: its own on every device that it uses, whatever its caller draws, and the caller's
untouched by it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Randomness:
    """The state of torch's generators for one device: that of the CPU, and where it has one that of the device itself.

    Args:
        device: where what is random is drawn, beside the CPU.
        seed: where all of its generators start.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self._device = device
        self.states: list[Tensor] = [
            torch.Generator(generator.device).manual_seed(seed).get_state() for generator in self._generators()
        ]

    def _generators(self) -> list[torch.Generator]:
        return [torch.default_generator, *_generators_of(self._device)]

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """While this holds, torch draws from here; what was drawn is kept, and the caller's generators go on as if
        nothing had been.
        """
        generators = self._generators()
        before = [generator.get_state() for generator in generators]
        _set(generators, self.states)
        try:
            yield
        finally:
            self.keep()
            _set(generators, before)

    def keep(self) -> None:
        """Keep the state that torch has reached; called while :meth:`drawn` holds."""
        self.states = [generator.get_state() for generator in self._generators()]

    def load(self, states: Sequence[Tensor], seed: int) -> None:
        """Go on from saved states: the CPU's, and the device's if it was of this kind; else that starts from a seed."""
        self.states = Randomness(self._device, seed).states
        for number, state in enumerate(states[: len(self.states)]):
            if state.shape == self.states[number].shape:
                self.states[number] = state

    def seed(self, seed: int) -> None:
        """Start anew from a seed; called while :meth:`drawn` holds."""
        for generator in self._generators():
            generator.manual_seed(seed)


def _set(generators: Sequence[torch.Generator], states: Sequence[Tensor]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def _generators_of(device: torch.device) -> list[torch.Generator]:
    """The default generators of a device that is no CPU."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.cuda.current_device() if device.index is None else device.index
        return [torch.cuda.default_generators[index]]
    if device.type == "mps":
        return [torch.mps._get_default_mps_generator()]
    return []

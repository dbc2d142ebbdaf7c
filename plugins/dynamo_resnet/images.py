"""What models of images share: the checks of what goes in, and a trial run that leaves no trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from dynamo.contracts.errors import DynamoError, InvalidValueError
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs

T = TypeVar("T")

_LARGEST = 512
_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)


def check_space(inputs: InputSpace, who: str) -> None:
    """Check that the inputs are images."""
    if inputs.kind != "image" or len(inputs.shape) != 3 or min(inputs.shape) < 1:
        raise InvalidValueError(f"{who} takes images of shape (channels, height, width), not {inputs}")


@contextmanager
def checked(inputs: Inputs, space: InputSpace) -> Iterator[None]:
    """A run of a model on inputs of a space.

    Raises:
        DynamoError: images of another shape, or a single one where batch normalisation needs several.
    """
    got = tuple(inputs.values.shape[1:])
    if got != space.shape:
        raise InvalidValueError(f"these inputs have shape {got} each; the model takes {space}")
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InvalidValueError(
            "batch normalisation cannot train on one image whose feature maps have shrunk to 1 x 1: there is nothing "
            "to average over; take batches of at least 2 (mind the last one), larger images, or eval mode"
        ) from None


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards each submodule is in its own mode again, torch's random state too."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def trial(module: nn.Module, space: InputSpace, run: Callable[[Tensor], T], who: str) -> T:
    """What a run gives on two black images, see :func:`undisturbed`.

    Args:
        module: the network; its parameters say on which device and in which dtype to run.
        space: the space of its images.
        run: runs it on images ``[2, C, H, W]``.
        who: what it is, for the message.

    Raises:
        DynamoError: it cannot be run; the message says on which images it can, if larger ones are all it needs.
    """
    parameter = next((parameter for parameter in module.parameters() if parameter.is_floating_point()), torch.empty(0))
    channels, height, width = space.shape

    def attempt(height: int, width: int) -> T:
        return run(parameter.new_zeros(2, channels, height, width))

    def runs(side: int) -> bool:
        try:
            attempt(side, side)
        except _REFUSALS:
            return False
        return True

    with undisturbed(module):
        try:
            return attempt(height, width)
        except DynamoError:
            raise
        except _REFUSALS as error:
            least = _least_side(runs, min(height, width))
            hint = f": it needs at least {least} x {least} pixels" if least else ""
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InvalidValueError(f"{who} cannot run on {space}{hint} ({reason})") from None


def _least_side(runs: Callable[[int], bool], failing: int) -> int | None:
    """The least side above a failing one at which a network runs, if it does so at any tried; by bisection."""
    low, high = failing, 2 * failing
    while not runs(high):
        low, high = high, 2 * high
        if high > _LARGEST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if runs(middle) else (middle, high)
    return high

"""Any network of images as a base model, by taps at its modules."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any, final

from torch import Tensor, nn

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo_resnet.images import check_space, checked, trial


@final
class TappedModel(DynamicalModel):
    """A network whose states are the outputs of some of its modules, blocks as time (appendix A).

    The module is shared, not copied. It is watched by forward hooks that are attached for the time of a call and
    removed whatever happens.

    The state maps for images take a state of three dimensions for (channels, height, width). The stages of
    torchvision's Swin transformers give channels last: wrap them in modules that move the channels.

    Args:
        inputs: the space of its images.
        outputs: the output space.
        module: the network: images ``[B, C, H, W]`` to outputs ``[B, K]``.
        points: the names of its modules, as ``named_modules`` gives them, in the order of the sites. Each gives one
            tensor ``[B, *S]`` and runs once in a pass.

    Raises:
        DynamoError: inputs that are no images or that the module cannot take; a point that does not exist, gives no
        single tensor, or does not run exactly once; outputs of another size.
    """

    def __init__(self, inputs: InputSpace, outputs: OutputSpace, module: nn.Module, points: Sequence[str]) -> None:
        super().__init__()
        check_space(inputs, "a tapped network")
        _check_points(module, points)
        self.inputs, self.outputs, self.module, self.points = inputs, outputs, module, tuple(points)
        read, answer = trial(module, inputs, self._run, f"this {type(module).__name__}")
        if answer.shape[1:] != (outputs.size,):
            raise InvalidValueError(f"the network has outputs of shape {tuple(answer.shape[1:])}, not {outputs}")
        for point, state in zip(self.points, read, strict=True):
            if state.ndim < 2 or len(state) != len(answer) or not state.is_floating_point():
                raise InvalidValueError(
                    f"module {point!r} gives {state.dtype} {tuple(state.shape)} for {len(answer)} images; a state "
                    "holds real numbers [B, ...]: tap another module"
                )
        self.state_shapes = tuple(tuple(state.shape[1:]) for state in read)

    def trajectory(self, inputs: Inputs) -> Trajectory:
        """States ``[B, 1, *S]`` at each point, outputs ``[B, 1, K]``.

        Raises:
            DynamoError: images of another shape, or a module that runs otherwise than it did at first.
        """
        with checked(inputs, self.inputs):
            read, outputs = self._run(inputs.values)
        return Trajectory(tuple(state.unsqueeze(1) for state in read), outputs.unsqueeze(1), inputs.mask)

    def _run(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        with _tapped(self.module, self.points) as read:
            outputs = self.module(images)
        if not isinstance(outputs, Tensor):
            raise InvalidValueError(
                f"the {type(self.module).__name__} gives a {type(outputs).__name__}; a base model gives one tensor "
                "[B, K]: switch auxiliary outputs off"
            )
        unused = [point for point in self.points if point not in read]
        if unused:
            raise InvalidValueError(f"module {unused[0]!r} does not run when the network does: tap another one")
        return [read[point] for point in self.points], outputs


@contextmanager
def _tapped(module: nn.Module, points: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """A dictionary that fills with the outputs of the modules while the network runs."""
    read: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for point in points:
            hooks.enter_context(module.get_submodule(point).register_forward_hook(_reader(point, read)))
        yield read


def _reader(point: str, read: dict[str, Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            given = type(output).__name__
            raise InvalidValueError(f"module {point!r} gives a {given}, not one tensor: tap a part of it")
        if point in read:
            raise InvalidValueError(f"module {point!r} runs several times in one pass: tap one that runs once")
        read[point] = output.clone()  # an activation in place may come next

    return keep


def _check_points(module: nn.Module, points: Sequence[str]) -> None:
    if not points or len(set(points)) < len(points):
        given = ", ".join(points) or "none"
        raise InvalidValueError(f"points are different names of modules, at least one; got {given}")
    known = {name for name, _ in module.named_modules(remove_duplicate=False)} - {""}
    for point in points:
        if point not in known:
            near = get_close_matches(point, sorted(known), n=5, cutoff=0.4)
            hint = f"did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
            top = ", ".join(name for name, _ in module.named_children())
            raise InvalidValueError(
                f"the {type(module).__name__} has no module {point!r}: {hint}at its top it has {top or 'none'}"
            )

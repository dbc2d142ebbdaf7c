"""A recurrent model at one constant input x: the map h ↦ F(x, h), in double precision and with exact derivatives."""

from collections.abc import Sequence
from copy import deepcopy
from difflib import get_close_matches

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dynamo.contracts.encoding import Reencoded
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.protocols import DynamicalModel, RecurrentModel
from dynamo.contracts.trajectory import Inputs
from dynamo.system.devices import device_of
from dynamo.training.emulator import ModelAt

#: How many pairs of a state and a unit are pulled back at once: enough to keep a processor busy, and to fit its cache.
ROWS = 1024


class ConstantInput:
    """The map h ↦ F(x, h) of a recurrent model at one input x, in double precision.

    It works on a copy of the model in eval mode, on the model's device where that knows double precision.

    Args:
        model: F.
        x: what enters the map, ``[E]``, as ``encode`` gives it.

    Raises:
        DynamoError: a model without ``step``, an x that is not finite numbers of the model's size, or a model that
            cannot compute in double precision.
    """

    def __init__(self, model: DynamicalModel, x: Tensor | ArrayLike) -> None:
        model = recurrent(model)
        device = device_of(model)
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.model = deepcopy(model).to(self.device).double().eval().requires_grad_(False)
        self._single = deepcopy(self.model).float()
        self.size = model.state_shapes[0][0]
        self.x = self._vectors(x, (input_size(model),), "the constant input x of this model is one vector")
        self._try()

    def states(self, states: Tensor | ArrayLike) -> Tensor:
        """States as this map takes them: a copy ``[S, H]`` in double precision.

        Raises:
            DynamoError: another shape, no states, or numbers that are not finite.
        """
        given = self._vectors(states, (None, self.size), "states of this model are vectors")
        if len(given) == 0:
            raise DynamoError("there are no states: give at least one")
        return given

    @torch.no_grad()
    def __call__(self, h: Tensor) -> Tensor:
        """F(x, h): ``[S, H] -> [S, H]``."""
        return self.model.step(self.x.expand(len(h), -1), h)

    @torch.no_grad()
    def readout(self, h: Tensor) -> Tensor:
        """G(h): ``[S, H] -> [S, K]``."""
        return self.model.readout(h)

    def speed(self, h: Tensor) -> Tensor:
        """q = ½‖F(x, h) − h‖² of each state, ``[S]``; infinite where F is not finite."""
        return 0.5 * (self(h) - h).square().sum(1).nan_to_num(nan=torch.inf, posinf=torch.inf)

    def gradient(self, h: Tensor) -> Tensor:
        """The gradient of the speed of each state, ``[S, H]``."""
        with torch.enable_grad():
            start = h.detach().clone().requires_grad_()
            speed = 0.5 * (self.model.step(self.x.expand(len(h), -1), start) - start).square().sum()
        return torch.autograd.grad(speed, start)[0]

    def rough_jacobian(self, h: Tensor) -> Tensor:
        """∂F/∂h ``[S, H, H]``, computed in single precision for speed: it is enough to find the way to a root."""
        return self._jacobians(self._single, self.x.float().expand(len(h), -1), h.detach().float(), False)[0].double()

    def jacobians(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """∂F/∂h ``[S, H, H]`` and ∂F/∂x ``[S, H, E]``."""
        in_state, in_input = self._jacobians(self.model, self.x.expand(len(h), -1), h.detach(), True)
        return in_state, in_input

    def _jacobians(self, model: RecurrentModel, x: Tensor, h: Tensor, in_input: bool) -> list[Tensor]:
        """Reverse mode: a forward pass of all states, and a backward pass of all for some units of F at a time."""
        wanted = [part.clone().requires_grad_() for part in ([h, x] if in_input else [h])]
        with torch.enable_grad():
            moved = model.step(wanted[-1] if in_input else x, wanted[0])
        jacobians = [h.new_zeros(len(h), self.size, part.shape[1]) for part in wanted]
        units = torch.eye(self.size, dtype=h.dtype, device=h.device)
        together = max(1, ROWS // len(h))
        for first in range(0, self.size, together):
            some = units[first : first + together, None].expand(-1, len(h), -1)
            batched = len(some) > 1
            parts = torch.autograd.grad(
                moved, wanted, some if batched else some[0], True, is_grads_batched=batched, allow_unused=True
            )
            for whole, part in zip(jacobians, parts, strict=True):
                if part is not None:
                    whole[:, first : first + together] = part.transpose(0, 1) if batched else part[:, None]
        return jacobians

    def _vectors(self, values: Tensor | ArrayLike, shape: tuple[int | None, ...], what: str) -> Tensor:
        given = values.detach() if isinstance(values, Tensor) else np.asarray(values)
        try:
            vectors = torch.as_tensor(given).to(self.device, torch.float64, copy=True)
        except TypeError:
            raise DynamoError(f"{what} of numbers, not {type(values).__name__}") from None
        if len(vectors.shape) != len(shape) or vectors.shape[-1] != shape[-1]:
            wanted = ", ".join("any number" if size is None else str(size) for size in shape)
            got = [*vectors.shape]
            raise DynamoError(f"{what} of shape [{wanted}], as its encode() and step() have them; got {got}")
        if not bool(vectors.isfinite().all()):
            raise DynamoError(f"{what} of finite numbers; some of these are NaN or infinite")
        return vectors

    def _try(self) -> None:
        """Take one step with its derivatives, so that what does not work is seen before the search starts."""
        h = self.model.initial_state(1).to(self.device, torch.float64)
        try:
            moved = self(h)
            if moved.shape == h.shape and moved.dtype == h.dtype:
                self.rough_jacobian(h)
                self.jacobians(h)
        except RuntimeError as error:
            raise DynamoError(
                "the model's step cannot be taken and differentiated in double and in single precision: "
                f"{str(error).splitlines()[0]}"
            ) from None
        if moved.shape != h.shape or moved.dtype != h.dtype:
            raise DynamoError(
                f"the model's step gives {[*moved.shape]} {moved.dtype} for one state of {self.size} units: it must "
                "give states of the same shape and precision"
            )


def recurrent(model: DynamicalModel) -> RecurrentModel:
    """The model, where its dynamics are one map iterated.

    Raises:
        DynamoError: they are not.
    """
    if isinstance(model, Reencoded):
        raise DynamoError(
            f"this model reads its inputs as {model.encoding!r}, and so on another clock than the meta-model: what is "
            "asked compares them step by step; its own dynamics are those of its attribute 'model'"
        )
    if not isinstance(model, RecurrentModel):
        name = type(model.meta_model if isinstance(model, ModelAt) else model).__name__
        raise DynamoError(
            f"a {name} has no step() and so no fixed points: they take a RecurrentModel, whose "
            "dynamics are one map iterated, such as gru, rnn, lstm or the meta-model gru" + _why(model)
        )
    return model


def _why(model: DynamicalModel) -> str:
    """What a wrapped module says of why it iterates no map."""
    reason = getattr(model, "why_no_map", "")
    return f" ({reason})" if reason else ""


def input_size(model: RecurrentModel) -> int:
    """E, how many numbers enter the map at each step."""
    if model.inputs.kind == "tokens":
        shown = torch.zeros(1, 1, dtype=torch.int64)
    else:
        floating = (part.dtype for part in model.parameters() if part.is_floating_point())
        shown = torch.zeros(1, 1, model.inputs.size, dtype=next(floating, torch.float32))
    with torch.no_grad():
        return model.encode(shown.to(device_of(model))).shape[-1]


@torch.no_grad()
def constant_input(model: DynamicalModel, name: str, inputs: Inputs, *, tokens: Sequence[str] = ()) -> Tensor:
    """A constant input by name.

    Args:
        model: what reads it.
        name: ``zeros`` (section 5), ``mean`` (the mean over all real steps of the inputs), or ``token:WORD``.
        inputs: typical inputs.
        tokens: the vocabulary, where the inputs are tokens.

    Returns:
        x ``[E]``.

    Raises:
        DynamoError: a model without ``step``, or a name or a word that is not known.

    Example:
        >>> inputs = population.dataset(population[0]).test.inputs
        >>> bool((constant_input(fit.model_at(fit.theta[0]), "zeros", inputs) == 0).all())
        True
    """
    model, device = recurrent(model), device_of(model)
    if name == "zeros":
        return torch.zeros(input_size(model), device=device)
    if name == "mean":
        return model.encode(inputs.values.to(device))[inputs.mask.to(device)].mean(0)
    kind, _, word = name.partition(":")
    if kind != "token":
        raise DynamoError(
            f"no constant input is called {name!r}: {did_you_mean(name, ['zeros', 'mean', 'token:WORD'])}"
        )
    if word not in tokens:
        near = ", ".join(get_close_matches(word, tokens, n=5, cutoff=0.5))
        hint = f"; near to it are {near}" if near else ""
        raise DynamoError(f"the vocabulary of {len(tokens)} words has no {word!r}{hint}")
    return model.encode(torch.tensor([[tokens.index(word)]], device=device))[0, 0]

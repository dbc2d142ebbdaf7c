"""The contracts of base models."""

from collections.abc import Callable

import torch
from torch import Tensor

from dynamo.contracts.checks import declaration_fault, trajectory_fault
from dynamo.contracts.protocols import DynamicalModel, RecurrentModel
from dynamo.contracts.trajectory import Inputs
from dynamo.testing.claims import Answers, claim, claim_close, claim_floats
from dynamo.testing.inputs import as_dtype, example_inputs, real_steps
from dynamo.testing.modules import (
    check_calls,
    check_gradients,
    check_state_dict,
    double,
    evaluated,
    own_device,
    own_dtype,
)
from dynamo.testing.runs import (
    check_arguments_unchanged,
    check_batch_independence,
    check_causality,
    check_padding,
)


def check_model(
    model: DynamicalModel, inputs: Inputs | None = None, *, rebuild: Callable[[], DynamicalModel] | None = None
) -> None:
    """Check the contract of :class:`dynamo.DynamicalModel`, for models over sequences and over images.

    Args:
        model: the model.
        inputs: what to run it on, generated if left out; several examples, sequences of several lengths.
        rebuild: makes a new model of the same options, to test that the state dict holds all that was learnt.

    Raises:
        AssertionError: a contract is broken; the message names it.

    Example:
        >>> from dynamo import InputSpace, OutputSpace, component
        >>> from dynamo.testing import check_model
        >>> check_model(component("architecture", "gru").make({}, InputSpace("real", (3,)), OutputSpace("classes", 2)))
    """
    claim(isinstance(model, DynamicalModel), f"contract: {type(model).__name__} is no DynamicalModel")
    inputs = (example_inputs(model.inputs) if inputs is None else inputs).to(own_device(model))
    no_thetas = torch.zeros(len(inputs), 0)

    def run(inputs: Inputs, thetas: Tensor) -> Answers:
        return _answers(model, inputs)

    _check_native(evaluated(model), as_dtype(inputs, own_dtype(model)))
    inputs = as_dtype(inputs, torch.float64)
    model = double(model, lambda model: _answers(model, inputs))
    check_calls(model, lambda model: _answers(model, inputs))
    check_batch_independence(run, inputs, no_thetas)
    if inputs.is_sequence:
        check_padding(run, inputs, no_thetas, model.inputs)
    check_gradients(model, lambda model: {"outputs": real_steps(model.trajectory(inputs).outputs, inputs)})
    check_state_dict(model, lambda model: _answers(model, inputs), rebuild)
    _check_forward(model, inputs)


def check_recurrent_model(
    model: RecurrentModel, inputs: Inputs | None = None, *, rebuild: Callable[[], RecurrentModel] | None = None
) -> None:
    """Check the contract of :class:`dynamo.RecurrentModel`, which includes that of :class:`dynamo.DynamicalModel`.

    Args:
        model: the model.
        inputs: see :func:`check_model`.
        rebuild: see :func:`check_model`.

    Raises:
        AssertionError: a contract is broken; the message names it.

    Example:
        >>> from dynamo import InputSpace, OutputSpace, component
        >>> from dynamo.testing import check_recurrent_model
        >>> rnn = component("architecture", "rnn")
        >>> check_recurrent_model(rnn.make({"hidden_size": 4}, InputSpace("real", (3,)), OutputSpace("real", 2)))
    """
    claim(isinstance(model, RecurrentModel), f"contract: {type(model).__name__} is no RecurrentModel")
    check_model(model, inputs, rebuild=rebuild)
    inputs = as_dtype((example_inputs(model.inputs) if inputs is None else inputs).to(own_device(model)), torch.float64)
    model = evaluated(model).double()

    def run(inputs: Inputs, thetas: Tensor) -> Answers:
        return _answers(model, inputs)

    check_causality(run, inputs, torch.zeros(len(inputs), 0), model.inputs)
    trajectory = model.trajectory(inputs)
    check_iteration(
        model.encode(inputs.values), model.initial_state(len(inputs)), model.step, trajectory.states, inputs
    )
    states = trajectory.states[0]
    broken = "readout: readout(states) differs from the outputs of the trajectory"
    claim_close(real_steps(model.readout(states), inputs), real_steps(trajectory.outputs, inputs), broken)
    claim_close(model.readout(states[:, 0]), trajectory.outputs[:, 0], f"{broken}, for states [B, H]")


def check_iteration(
    x: Tensor,
    h: Tensor,
    step: Callable[[Tensor, Tensor], Tensor],
    states: tuple[Tensor, ...],
    inputs: Inputs,
) -> None:
    """Iterating ``step`` on encoded inputs ``x [B, T, E]`` from the initial state ``h [B, H]`` gives the states."""
    claim(len(states) == 1, f"sites: a recurrent model has one site; this one has {len(states)}")
    claim(
        states[0].ndim == 3, f"sites: a recurrent model has flat states; these have shape {tuple(states[0].shape[2:])}"
    )
    claim_floats(h, (len(inputs), states[0].shape[2]), states[0].dtype, "initial states")
    claim(
        x.ndim == 3 and x.shape[:2] == inputs.mask.shape,
        f"shape: encode gives {tuple(x.shape)}; the contract says (batch, time, size of what enters the map)",
    )
    iterated = []
    for t in range(x.shape[1]):
        before = h.clone()
        after = step(x[:, t], h)
        claim(torch.equal(before, h), "purity: step writes into the state it is given")
        h = after
        iterated.append(h)
    claim_close(
        real_steps(torch.stack(iterated, dim=1), inputs),
        real_steps(states[0], inputs),
        "iteration: step, iterated from initial_state on encode(values), differs from the trajectory's states",
    )


def _answers(model: DynamicalModel, inputs: Inputs) -> Answers:
    trajectory = model.trajectory(inputs)
    states = {f"states at site {site}": states for site, states in enumerate(trajectory.states)}
    return {**states, "outputs": trajectory.outputs}


def _check_native(model: DynamicalModel, inputs: Inputs) -> None:
    """Types, sites, shapes and dtypes are as the model declares, and the mask is that of the inputs or one step for
    all; see :func:`dynamo.contracts.checks.trajectory_fault`.
    """
    copied = as_dtype(inputs, own_dtype(model))
    fault = declaration_fault(model) or trajectory_fault(model, copied, model.trajectory(copied))
    claim(not fault, fault)
    check_arguments_unchanged(lambda inputs, thetas: _answers(model, inputs), inputs, torch.zeros(len(inputs), 0))
    for name, tensor in _answers(model, inputs).items():
        claim_floats(tensor, tuple(tensor.shape), own_dtype(model), name)


def _check_forward(model: DynamicalModel, inputs: Inputs) -> None:
    """Calling the model gives the outputs of its trajectory at the readout."""
    trajectory = model.trajectory(inputs)
    answer = model(inputs.values, inputs.mask)
    shape = (*trajectory.mask.shape, model.outputs.size)
    shape = shape if model.outputs.readout == "every" else (len(inputs), model.outputs.size)
    claim(
        tuple(answer.shape) == shape,
        f"forward: it answers with shape {tuple(answer.shape)}; readout {model.outputs.readout!r} says {shape}",
    )
    expected = trajectory.at_readout(model.outputs.readout)
    claim_close(answer, expected, "forward: its answer differs from the trajectory's outputs at the readout")

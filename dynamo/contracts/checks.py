"""What the core checks of plugins' objects itself, once each, when it first meets them: base models on their first
batch, divergences on a few random vectors.

A ``..._fault`` function answers with the broken contract in words, or with an empty text; the ``check_...`` function
beside it raises it as a :class:`~dynamo.contracts.errors.PluginError`. ``dynamo.testing`` checks the same and more.
"""

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor, nn

from dynamo.contracts.errors import DynamoError, InvalidValueError, PluginError
from dynamo.contracts.protocols import Divergence, DynamicalModel, RecurrentModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory, iterate

#: How many examples and steps a recurrent model's step is iterated for.
EXAMPLES, STEPS = 2, 4
#: The share of the largest state by which a step may differ from the trajectory (products on GPUs keep three digits).
TOLERANCE = 0.01


def declaration_fault(model: Any) -> str:
    """What is wrong with the spaces and state shapes that a model declares."""
    for name, kind in (("inputs", InputSpace), ("outputs", OutputSpace)):
        if not isinstance(getattr(model, name, None), kind):
            return f"declaration: {name} is {getattr(model, name, None)!r}; set it to an {kind.__name__}"
    shapes = getattr(model, "state_shapes", None)
    if not isinstance(shapes, tuple) or not shapes or not all(map(_is_shape, shapes)):
        return (
            f"declaration: state_shapes is {shapes!r}; set it to a tuple of shapes, one a site, such as ((64,),) for "
            "one site of 64 units"
        )
    return ""


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(type(size) is int and size > 0 for size in shape)


def check_declaration(model: Any, *, where: str) -> None:
    """Check that a model declares its spaces and the shapes of its states.

    Args:
        model: a model, or a :class:`dynamo.BaseModel`.
        where: the model and its plugin, for the message.

    Raises:
        PluginError: it does not.

    Example:
        >>> from dynamo import InputSpace, OutputSpace, component
        >>> from dynamo.contracts import check_declaration
        >>> gru = component("architecture", "gru").make({}, InputSpace("real", (3,)), OutputSpace("classes", 2))
        >>> check_declaration(gru, where="model 'gru'")
        >>> gru.state_shapes = (256,)
        >>> check_declaration(gru, where="model 'gru'")
        Traceback (most recent call last):
        dynamo.contracts.errors.PluginError: model 'gru' (dynamo_rnn.models.GRU) breaks the contract of base models: \
declaration: state_shapes is (256,); set it to a tuple of shapes, one a site, such as ((64,),) for one site of 64 units
    """
    _raise(declaration_fault(model), where, "base models", model)


def checked_trajectory(model: DynamicalModel, inputs: Inputs, *, where: str) -> Trajectory:
    """A model's trajectory on its first batch, checked; see :func:`check_trajectory`.

    Args:
        model: the model, in eval mode; call this without gradients.
        inputs: a batch of its inputs.
        where: the model and its plugin, for the message.

    Raises:
        PluginError: the model fails, or its trajectory breaks the contract.
        DynamoError: what the model itself raises.

    Example:
        >>> from dynamo import InputSpace, OutputSpace, component
        >>> from dynamo.contracts import checked_trajectory
        >>> from dynamo.testing import example_inputs
        >>> gru = component("architecture", "gru").make({}, InputSpace("real", (3,)), OutputSpace("classes", 2))
        >>> checked_trajectory(gru.eval(), example_inputs(gru.inputs), where="model 'gru'").outputs.shape
        torch.Size([5, 7, 2])
    """
    trajectory = _called(lambda: model.trajectory(inputs), where, "trajectory(inputs)", model)
    check_trajectory(model, inputs, trajectory, where=where)
    return trajectory  # type: ignore[no-any-return]


def check_trajectory(model: DynamicalModel, inputs: Inputs, trajectory: Trajectory, *, where: str) -> None:
    """Check what a model gave for a batch: types, sites, steps, shapes, mask and kind of number, that all is finite on
    real steps, and for a recurrent model that its step, iterated for a few steps of a few examples, and its readout
    give the same.

    Args:
        model: the model.
        inputs: the batch.
        trajectory: what ``model.trajectory(inputs)`` gave.
        where: the model and its plugin, for the message.

    Raises:
        PluginError: the trajectory breaks the contract, or ``encode``, ``initial_state``, ``step`` or ``readout`` fail.
        InvalidValueError: states or outputs are NaN or infinite.

    Example:
        >>> from dynamo import InputSpace, OutputSpace, Trajectory, component
        >>> from dynamo.contracts import check_trajectory
        >>> from dynamo.testing import example_inputs
        >>> gru = component("architecture", "gru").make({}, InputSpace("real", (3,)), OutputSpace("classes", 2)).eval()
        >>> batch = example_inputs(gru.inputs)
        >>> whole = gru.trajectory(batch)
        >>> check_trajectory(gru, batch, whole, where="model 'gru'")
        >>> cut = Trajectory((whole.states[0][:, :3],), whole.outputs[:, :3], whole.mask[:, :3])
        >>> check_trajectory(gru, batch, cut, where="model 'gru'")
        Traceback (most recent call last):
        dynamo.contracts.errors.PluginError: model 'gru' (dynamo_rnn.models.GRU) breaks the contract of base models: \
mask: it is neither that of the inputs nor one real step [B, 1] for the whole input
    """
    _raise(trajectory_fault(model, inputs, trajectory), where, "base models", model)
    tensors = (*trajectory.states, trajectory.outputs)
    if not all(_is_finite(tensor, trajectory.mask) for tensor in tensors):
        raise InvalidValueError(f"{where} gives NaN or infinite states or outputs on its data: leave it out")
    if isinstance(model, RecurrentModel):
        fault = _called(
            lambda: iteration_fault(model, inputs, trajectory), where, "encode, initial_state, step or readout", model
        )
        _raise(fault, where, "recurrent models", model)


def _is_finite(tensor: Tensor, mask: Tensor) -> bool:
    """Whether all is finite on real steps; the sum is looked at first, which is fast and nearly always enough."""
    return bool(tensor.sum().isfinite()) or bool(tensor[mask].isfinite().all())


def trajectory_fault(model: DynamicalModel, inputs: Inputs, trajectory: Any) -> str:
    """What is wrong with a trajectory by itself."""
    if not isinstance(trajectory, Trajectory):
        return f"type: trajectory(inputs) gives a {type(trajectory).__name__}; return a dynamo.Trajectory"
    states, outputs, mask = trajectory.states, trajectory.outputs, trajectory.mask
    if not isinstance(states, tuple) or not all(isinstance(state, Tensor) for state in states):
        return f"type: the states are a {type(states).__name__}; give a tuple with one tensor a site"
    if not isinstance(outputs, Tensor) or not isinstance(mask, Tensor):
        return "type: outputs and mask of a trajectory are tensors"
    if len(states) != len(model.state_shapes):
        return f"sites: the trajectory has {len(states)}; state_shapes declares {len(model.state_shapes)}"
    whole = mask.shape == (len(inputs), 1) and bool(mask.all())
    if not whole and not torch.equal(mask, model.clock(inputs).to(mask.device)):
        return "mask: it is neither that of the inputs nor one real step [B, 1] for the whole input"
    named = [(f"states at site {site}", state, model.state_shapes[site]) for site, state in enumerate(states)]
    for name, tensor, shape in (*named, ("outputs", outputs, (model.outputs.size,))):
        expected = (*mask.shape, *shape)
        if tuple(tensor.shape) != expected:
            return f"shape: {name} have shape {tuple(tensor.shape)}; the contract says {expected}"
        if not tensor.is_floating_point():
            return f"dtype: {name} are {tensor.dtype}; give real numbers"
    return ""


def iteration_fault(model: RecurrentModel, inputs: Inputs, trajectory: Trajectory) -> str:
    """How a recurrent model's step and readout disagree with its trajectory on a few steps of a few examples."""
    if len(trajectory.states) != 1 or trajectory.states[0].ndim != 3:
        return "sites: a recurrent model has one site with flat states [B, T, H]"
    some = slice(0, EXAMPLES)
    values, mask = inputs.values[some], trajectory.mask[some, :STEPS]
    expected, outputs = trajectory.states[0][some, :STEPS], trajectory.outputs[some, :STEPS]
    x, h = model.encode(values), model.initial_state(len(values))
    if x.ndim != 3 or x.shape[:2] != inputs.mask[some].shape:
        return f"shape: encode gives {tuple(x.shape)}; the contract says (batch, time, size of what enters the map)"
    if h.shape != expected[:, 0].shape:
        return f"shape: initial_state gives {tuple(h.shape)}; the contract says {tuple(expected[:, 0].shape)}"
    after = model.step(x[:, 0], h)
    if after.shape != h.shape:
        return f"shape: step gives {tuple(after.shape)}; the contract says {tuple(h.shape)}"
    states = iterate(model.step, x[:, :STEPS], h)
    differs = "iteration: step, iterated from initial_state on encode(values), differs from the trajectory's states"
    reads = "readout: readout(states) differs from the outputs of the trajectory"
    for broken, got, wanted in ((differs, states, expected), (reads, model.readout(expected), outputs)):
        if got.shape != wanted.shape:
            return f"{broken} (shapes {tuple(got.shape)} and {tuple(wanted.shape)})"
        difference, size = (float(part[mask].detach().abs().max()) for part in (got - wanted, wanted))
        if not difference <= TOLERANCE * size + 1e-6:
            return f"{broken} (largest difference {difference:.3g}, largest value {size:.3g})"
    return ""


def check_divergence_values(divergence: Divergence, prediction: Tensor, target: Tensor, *, where: str) -> None:
    """Check a divergence on a few vectors: what it declares, the shape of its values, that they are finite,
    non-negative and zero between equals, and that it is as symmetric, and as much of a metric, as it says.

    Args:
        divergence: the divergence.
        prediction: some vectors ``[N, D]``.
        target: as many others.
        where: the divergence and its plugin, for the message.

    Raises:
        PluginError: it breaks its contract, or fails.

    Example:
        >>> from dynamo import component
        >>> from dynamo.contracts import check_divergence_values
        >>> cosine = component("divergence", "cosine").make({})
        >>> check_divergence_values(cosine, torch.randn(5, 3), torch.randn(5, 3), where="divergence 'cosine'")
        >>> cosine.is_metric = True
        >>> check_divergence_values(cosine, torch.randn(5, 3), torch.randn(5, 3), where="divergence 'cosine'")
        Traceback (most recent call last):
        dynamo.contracts.errors.PluginError: divergence 'cosine' (dynamo_divergences.vectors.Cosine) breaks the \
contract of divergences: zero: it declares a metric, and is zero between a and 2a
    """
    fault = _called(
        lambda: divergence_fault(divergence, prediction, target), where, "d(prediction, target)", divergence
    )
    _raise(fault, where, "divergences", divergence)


def divergence_declaration_fault(divergence: Any) -> str:
    """What is wrong with what a divergence declares."""
    domains = get_args(get_type_hints(Divergence)["domain"])
    domain = getattr(divergence, "domain", None)
    if domain not in domains:
        return f"declaration: domain is {domain!r}; it must be one of {', '.join(domains)}"
    for name in ("is_symmetric", "is_metric"):
        value = getattr(divergence, name, None)
        if not isinstance(value, bool):
            return f"declaration: {name} is {value!r}; it must be True or False"
    return "declaration: a metric is symmetric" if divergence.is_metric and not divergence.is_symmetric else ""


def divergence_fault(divergence: Divergence, prediction: Tensor, target: Tensor) -> str:
    """What is wrong with a divergence, as far as a few vectors ``[N, D]`` show."""
    fault = divergence_declaration_fault(divergence)
    if fault:
        return fault
    values = divergence(prediction, target)
    wanted = tuple(prediction.shape[:-1])
    if not isinstance(values, Tensor):
        return f"type: it gives a {type(values).__name__}; return a tensor"
    if tuple(values.shape) != wanted:
        return f"shape: {list(prediction.shape)} gives {tuple(values.shape)}; the contract says {wanted}"
    if not bool(values.isfinite().all()):
        return "finite: some values are NaN or infinite"
    if not bool((values >= 0).all()):
        return "non-negative: some values are below zero"
    slack = 1e-5 * (1 + float(values.max()))
    if float(divergence(target, target).abs().max()) > slack:
        return "zero: it is not zero between equals"
    if divergence.is_symmetric and float((divergence(target, prediction) - values).abs().max()) > slack:
        return "symmetry: it declares symmetry, and d(a, b) differs from d(b, a)"
    return metric_fault(divergence, prediction, target) if divergence.is_metric else ""


def metric_fault(divergence: Divergence, a: Tensor, b: Tensor) -> str:
    """How a divergence that declares a metric is none: vectors that differ and that it does not tell apart, or a way
    that is shorter than the straight one.
    """
    direct = divergence(a, b)
    for name, other in (("a + 1", a + 1), ("2a", 2 * a)):
        if bool((divergence(a, other) <= 1e-6 * direct.max()).any()):
            return f"zero: it declares a metric, and is zero between a and {name}"
    for middle in ((a + b) / 2, a.flip(0)):
        if bool((direct > (divergence(a, middle) + divergence(middle, b)) * (1 + 1e-5)).any()):
            return "triangle inequality: it declares a metric, and some d(a, c) exceeds d(a, b) + d(b, c)"
    return ""


def _raise(fault: str, where: str, what: str, culprit: Any) -> None:
    if fault:
        raise PluginError(f"{_named(where, culprit)} breaks the contract of {what}: {fault}")


def _called(call: Callable[[], Any], where: str, what: str, culprit: Any) -> Any:
    """What a plugin's code gives; whatever it raises becomes an error that names it."""
    try:
        return call()
    except DynamoError as error:
        raise error if str(error).startswith(where) else error.at(where) from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}{_other_precision(culprit)}"
        raise PluginError(f"{_named(where, culprit)} fails when {what} is called: {reason}") from error


def _other_precision(culprit: Any) -> str:
    """What to do about weights in another precision than that of the inputs."""
    parameters = culprit.parameters() if isinstance(culprit, nn.Module) else ()
    kinds = sorted({str(part.dtype).removeprefix("torch.") for part in parameters if part.is_floating_point()})
    return "" if kinds in ([], ["float32"]) else f"; its weights are {' and '.join(kinds)}: give model.float()"


def _named(where: str, culprit: Any) -> str:
    """What is at fault, with its class, whose module tells the plugin."""
    return f"{where} ({type(culprit).__module__}.{type(culprit).__qualname__})"

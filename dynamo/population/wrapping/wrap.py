"""``dynamo.wrap``: any module as a base model."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor, nn

from dynamo.contracts.checks import iteration_fault
from dynamo.contracts.errors import DynamoError, InvalidValueError, WrongTypeError, did_you_mean
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo.population.wrapping.answers import Answer
from dynamo.population.wrapping.batches import as_batch
from dynamo.population.wrapping.feeding import Caller, Layout, feedings, made_up, parameters_of, takes_any_keyword
from dynamo.population.wrapping.model import (
    Plan,
    Time,
    WrappedModel,
    WrappedRecurrentModel,
    arranged_states,
    entering,
    read_out,
    without_gradients,
)
from dynamo.population.wrapping.names import candidates, like_layers, matching, unwrapped
from dynamo.population.wrapping.reading import Pick, Reading
from dynamo.population.wrapping.recurrence import CellMap, LayerMap, Map, layer_map, map_of
from dynamo.population.wrapping.trial import Trial, alike, at_end, try_out
from dynamo.population.wrapping.watching import watching
from dynamo.system.devices import device_of

Kind = Literal["classes", "real"]


def wrap(
    module: nn.Module,
    *,
    inputs: Any,
    outputs: OutputSpace | Kind | None = None,
    states: str | Sequence[str] | Pick | None = None,
    answer: Answer | None = None,
    time: Time | None = None,
    step: str | None = None,
    layout: Layout | None = None,
    call: Caller | None = None,
    example: Any = None,
) -> DynamicalModel:
    """Any module as a base model, whose states are what some of its modules give.

    The module is run once on a few inputs, and what is not said is worked out from that: the order of its axes, the
    spaces of inputs and outputs, which of its arguments take the mask, whether padding does harm. It is shared, not
    copied, and not changed; it is watched by hooks that are there for the time of a call alone. ``DataParallel`` and
    ``torch.compile`` around it are left out. A module in half precision is copied in single precision, which is exact.

    Args:
        module: the network.
        inputs: an :class:`~dynamo.InputSpace`, or a batch, examples first: token ids ``[B, T]``, sequences
            ``[B, T, D]``, images ``[B, C, H, W]``, vectors ``[B, D]``, a pair of values and mask, a dictionary with
            ``input_ids`` and ``attention_mask``, a ``PackedSequence``. Padding may be on either side.
        outputs: the output space, or its kind, ``classes`` (logits) or ``real``; real where the answer is not called
            ``logits``. The answer is that to the whole sequence where it does not run over the steps.
        states: names of modules, with ``*`` for a part between dots (``"encoder.layer.*"``); or a function of the
            module's answer that gives (states, outputs). Where it is None: the recurrent layers of torch, or the hidden
            states that a model of ``transformers`` gives on request, or the longest list of like blocks.
        answer: where in the module's answer the outputs are: a name, a number or a function. Where it is None:
            ``logits``, ``output`` or the like, or the first tensor.
        time: what time is. ``steps``: the steps of the sequences; the states of several modules are one, side by side.
            ``blocks``: the modules, each a site with one step, averaged over the steps of a sequence. ``both``: the
            modules are sites with all steps. Where it is None, ``steps`` if the states run over steps, else ``blocks``.
        step: the module that iterates one map and is called once a step, such as a cell of one's own. Recurrent layers
            and cells of torch are recognised.
        layout: the axes of what the module takes: ``batch-time``, ``time-batch``, ``batch-feature-time`` (as
            convolutions over time take), or ``packed``; found out where it is None.
        call: a function ``call(module, inputs)`` that calls the module with :class:`~dynamo.Inputs` (``values``,
            ``mask``), for one that is called in another way.
        example: a batch to try the module on, where ``inputs`` is a space and random inputs will not do.

    Returns:
        A :class:`~dynamo.RecurrentModel` where one map is iterated (one layer in one direction, or a cell), so that it
        has fixed points; else a :class:`~dynamo.DynamicalModel`. The state of torch's recurrent layers is that of all
        layers and directions, side by side; of LSTMs h and c. A module that answers once for a sequence answers at each
        step as if the sequence ended there, where its state tells; else its one answer stands at all steps.

    Raises:
        UnknownNameError: names that no module has.
        InvalidValueError: it is not clear where states or outputs are, they do not fit ``time`` or ``outputs``, or no
            way to call the module works.
        WrongTypeError: no module.

    Example:
        >>> from torch import nn
        >>> import dynamo
        >>> class Reader(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.rnn, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)
        ...     def forward(self, x):
        ...         return self.head(self.rnn(x)[0][:, -1])
        >>> model = dynamo.wrap(Reader(), inputs=torch.randn(10, 7, 3), outputs="classes")
        >>> str(model.inputs), str(model.outputs), model.state_shapes
        ('real input of shape (3,)', '2 classes (output)', ((8,),))
        >>> isinstance(model, dynamo.RecurrentModel)
        True
    """
    if isinstance(module, DynamicalModel) and states is None and answer is None and step is None and call is None:
        return module
    if not isinstance(module, nn.Module):
        raise WrongTypeError(
            f"wrap takes a torch module, not a {type(module).__name__}"
            + ("; build the module and load_state_dict() it" if isinstance(module, dict) else "")
        )
    if time is not None and time not in get_args(Time):
        raise InvalidValueError(f"time is {time!r}: {did_you_mean(str(time), get_args(Time))}")
    network = in_single_precision(unwrapped(module))
    space, batch = _batch(network, inputs, example)
    with without_gradients(network):
        reading, hidden = _reading(network, states, answer, step)
        ways = feedings(network, batch, layout, _is_flat(batch), call, hidden)
        trial, reading = _tried(network, reading, ways, batch, step)
        time = _time(trial, time)
        plan = Plan(trial.feeding, reading, trial.arrangement, time, trial.padding, trial.padded_outputs)
        space = space or _input_space(network, trial, batch)
        answered = _output_space(trial, outputs, time)
        found = _made(network, plan, space, answered, trial, step)
    found.training = module.training
    return found


def in_single_precision(module: nn.Module) -> nn.Module:
    """The module, or a copy in single precision where it has parameters of half precision."""
    halves = (torch.float16, torch.bfloat16)
    return deepcopy(module).float() if any(one.dtype in halves for one in module.parameters()) else module


def _is_flat(batch: Inputs) -> bool:
    return batch.values.ndim == 3 and batch.mask.shape[1] == 1


def _batch(module: nn.Module, inputs: Any, example: Any) -> tuple[InputSpace | None, Inputs]:
    """The input space, where it is given, and a batch to try the module on."""
    device = device_of(module)
    if isinstance(inputs, InputSpace):
        if example is None:
            return inputs, made_up(inputs.kind, inputs.shape, device)
        return inputs, as_batch(example, "the example").to(device)
    given = as_batch(inputs if example is None else example, "the batch of inputs")
    return None, given.to(device)


def _reading(
    module: nn.Module, states: str | Sequence[str] | Pick | None, answer: Answer | None, step: str | None
) -> tuple[Reading, bool]:
    """What is read, and whether hidden states are asked for."""
    if states is None and step is not None:
        states = step
    if isinstance(module, torch.jit.ScriptModule) and not callable(states):
        raise WrongTypeError(
            "the modules within a TorchScript program cannot be watched: wrap the module that it was made of, or take "
            "the states from its answer with states=lambda answer: (STATES, OUTPUTS)"
        )
    if isinstance(states, str):
        return Reading(tuple(matching(module, [states])), answer=answer), False
    if isinstance(states, Sequence):
        return Reading(tuple(matching(module, list(states))), answer=answer), False
    if states is not None:
        if not callable(states):
            raise WrongTypeError(f"states are names of modules or a function, not a {type(states).__name__}")
        return Reading(pick=states), False
    layers = [name for name, part in module.named_modules() if isinstance(part, nn.RNNBase)]
    layers = layers or [name for name, part in module.named_modules() if isinstance(part, nn.RNNCellBase)]
    if layers:
        return Reading(tuple(layers), answer=answer), False
    if "output_hidden_states" in parameters_of(module):
        return Reading(hidden=True, answer=answer), True
    blocks = like_layers(module)
    if not blocks and takes_any_keyword(module) and hasattr(getattr(module, "config", None), "output_hidden_states"):
        return Reading(hidden=True, answer=answer), True
    if not blocks:
        raise InvalidValueError(
            f"it is not clear where the states of this {type(module).__name__} are: name modules, such as "
            f"dynamo.wrap(module, inputs=…, states='NAME'), of {candidates(module)}"
        )
    return Reading(tuple(blocks), answer=answer), False


def _tried(
    module: nn.Module, reading: Reading, ways: Sequence[Any], batch: Inputs, step: str | None
) -> tuple[Trial, Reading]:
    trial = try_out(module, reading, ways, batch)
    if step is None:
        return trial, reading
    name = matching(module, [step])[0]
    if isinstance(module.get_submodule(name), nn.RNNBase):
        return trial, reading
    with watching(module, [name]) as calls:
        trial.feeding(module, trial.probe)
    cell = CellMap.of(name, calls[name])
    reading = attrs.evolve(reading, names=(name,), state=cell.state)
    return try_out(module, reading, [trial.feeding], batch), reading


def _time(trial: Trial, time: Time | None) -> Time:
    """What time is, where the states allow it."""
    arrangement, probe = trial.arrangement, trial.probe
    states, _ = arrangement.arranged(trial.raw)
    names = [
        name
        for name, own, together in zip(trial.raw.names, trial.raw.states, arrangement.stacked, strict=True)
        for _ in range(1 if together else len(own))
    ]
    faults = []
    for name, state, axes in zip(names, states, arrangement.states, strict=True):
        if axes.time is None:
            faults.append(f"what {name!r} gives, {tuple(state.shape)}, does not run over the steps of a sequence")
        elif state.shape[1] != probe.mask.shape[1]:
            faults.append(f"what {name!r} gives has {state.shape[1]} steps for {probe.mask.shape[1]} of its inputs")
    if time is None:
        time = "blocks" if len(faults) == len(names) else "steps"
    if time != "blocks" and faults:
        raise InvalidValueError(f"{faults[0]}: name other modules, or choose time='blocks', where each is one step")
    if time == "blocks" and any("has" in fault and "steps for" in fault for fault in faults):
        raise InvalidValueError(f"{faults[0]}: it cannot be averaged over the real steps; name another module")
    return time


def _input_space(module: nn.Module, trial: Trial, batch: Inputs) -> InputSpace:
    values = batch.values
    if values.ndim == 4:
        return InputSpace("image", tuple(values.shape[1:]))
    if values.is_floating_point():
        return InputSpace("real", (values.shape[2],))
    tables = [name for name, part in module.named_modules() if isinstance(part, nn.Embedding)]
    with watching(module, tables) as calls:
        trial.feeding(module, trial.probe)
    ids = trial.probe.values.flatten().sort().values
    for name in tables:
        for one in calls[name]:
            read = one.argument(0, "input")
            if isinstance(read, Tensor) and torch.equal(read.flatten().sort().values.to(ids), ids):
                table = module.get_submodule(name)
                assert isinstance(table, nn.Embedding)
                return InputSpace("tokens", (table.num_embeddings,))
    raise InvalidValueError(
        "it is not clear how many tokens there are, since no nn.Embedding reads their ids: give "
        "inputs=InputSpace('tokens', (NUMBER,))"
    )


def _output_space(trial: Trial, given: OutputSpace | Kind | None, time: Time) -> OutputSpace:
    _, outputs = trial.arrangement.arranged(trial.raw)
    runs = trial.arrangement.outputs.time is not None
    if runs and time != "blocks" and outputs.shape[1] != trial.probe.mask.shape[1]:
        raise InvalidValueError(
            f"the module's outputs have {outputs.shape[1]} steps for {trial.probe.mask.shape[1]} of its inputs: say "
            "with answer=… which are one for each step, or one for all"
        )
    size = outputs.shape[-1]
    if isinstance(given, OutputSpace):
        if given.size != size:
            raise InvalidValueError(f"the module gives {size} outputs, not {given}")
        if given.readout == "every" and (time == "blocks" or not runs):
            raise InvalidValueError(f"{given} is read at every step, and the module answers once for a sequence")
        return given
    if given is not None and given not in get_args(Kind):
        raise InvalidValueError(f"outputs are {given!r}: {did_you_mean(str(given), get_args(Kind))}")
    kind = given or ("classes" if trial.raw.label == "logits" else "real")
    return OutputSpace(kind, size, "every" if runs and time != "blocks" else "last")


def _made(
    module: nn.Module, plan: Plan, inputs: InputSpace, outputs: OutputSpace, trial: Trial, step: str | None
) -> WrappedModel:
    states, _ = plan.arrangement.arranged(trial.raw)
    shapes = tuple(tuple(site.shape[2:]) for site in arranged_states(states, plan, trial.probe))
    why, names = "", plan.reading.names
    if plan.time == "steps" and len(names) == 1 and plan.reading.pick is None and inputs.kind != "image":
        iterated, why = _map(module, plan, names[0], trial, step)
        if iterated is not None:
            made = _recurrent(module, plan, inputs, outputs, shapes, trial, iterated)
            if isinstance(made, WrappedRecurrentModel):
                return made
            why = made
        plan = _with_last(module, plan, inputs, outputs, shapes, trial)
    if step is not None:
        raise InvalidValueError(f"step={step!r} is no map that is iterated: {why or 'time must be steps'}")
    return WrappedModel(module, plan, inputs, outputs, shapes, why)


def _map(module: nn.Module, plan: Plan, name: str, trial: Trial, step: str | None) -> tuple[Map | None, str]:
    part = module.get_submodule(name)
    if isinstance(part, nn.RNNBase):
        return map_of(module, name)
    if step is None and not isinstance(part, nn.RNNCellBase):
        return None, ""
    with watching(module, [name]) as calls:
        plan.feeding(module, trial.probe)
    try:
        return CellMap.of(name, calls[name]), ""
    except DynamoError as error:
        return None, str(error)


def _recurrent(
    module: nn.Module,
    plan: Plan,
    inputs: InputSpace,
    outputs: OutputSpace,
    shapes: tuple[tuple[int, ...], ...],
    trial: Trial,
    iterated: Map,
) -> WrappedRecurrentModel | str:
    """The module as a map that is iterated, or why it is none."""
    first = iterated.start(entering(module, plan.feeding, iterated, trial.probe))
    if not alike(first, first[:1].expand_as(first)):
        return f"module {iterated.name!r} starts from another state for each example"
    start = first[0].detach().clone()
    start = start.expand(shapes[0]) if start.numel() == 1 else start
    model = WrappedRecurrentModel(module, plan, inputs, outputs, shapes, iterated, start.clone())
    try:
        fault = iteration_fault(model, trial.probe, model.trajectory(trial.probe))
        values = trial.probe.values
        if not fault and not alike(model.encode(values[:, -1:]), model.encode(values)[:, -1:]):
            fault = (
                f"what enters module {iterated.name!r} at a step depends on other steps, so that it is not the one map "
                "that is iterated"
            )
        if not fault and plan.arrangement.outputs.time is None:
            whole = plan.arrangement.arranged(trial.raw)[1]
            if not alike(at_end(model.trajectory(trial.probe).outputs, trial.probe), whole):
                fault = "its answer is not read from the last state alone"
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    return fault or model


def _with_last(
    module: nn.Module,
    plan: Plan,
    inputs: InputSpace,
    outputs: OutputSpace,
    shapes: tuple[tuple[int, ...], ...],
    trial: Trial,
) -> Plan:
    """The plan with the layer whose last state is what a module answers from that answers once, where there is one."""
    rnn = module.get_submodule(plan.reading.names[0])
    if not isinstance(rnn, nn.RNNBase) or rnn.bidirectional or plan.arrangement.outputs.time is not None:
        return plan
    last: LayerMap = layer_map(rnn, plan.reading.names[0])
    model = WrappedModel(module, plan, inputs, outputs, shapes)
    try:
        states = model.trajectory(trial.probe).states[0]
        told = read_out(model, last, at_end(states, trial.probe)[..., -last.width :])
    except Exception:
        return plan
    return attrs.evolve(plan, last=last) if alike(told, plan.arrangement.arranged(trial.raw)[1]) else plan

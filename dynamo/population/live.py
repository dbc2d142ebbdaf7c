"""Live networks as base models: those of any class are wrapped, what they are probed with becomes their data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import nn

from dynamo.contracts.data import Dataset
from dynamo.contracts.encoding import Reencoded
from dynamo.contracts.errors import DynamoError, InvalidValueError, did_you_mean
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo.population.base_model import BaseModel
from dynamo.population.examples import Tokenizer, examples_of, fitting
from dynamo.population.metadata import tables_of
from dynamo.population.stored_data import StoredData
from dynamo.population.wrapping.wrap import Kind, wrap
from dynamo.registry import make

#: On so many inputs a network is tried that is wrapped.
_TRIED = 8


def live_models(
    models: Mapping[str, nn.Module],
    data: Any,
    metadata: Any = None,
    *,
    outputs: OutputSpace | Kind | None = None,
    tokenizer: Tokenizer | None = None,
    encodings: Mapping[str, str] | None = None,
    held_out: float = 0.2,
    seed: int = 0,
) -> list[BaseModel]:
    """Base models of live networks that share their data; see :meth:`dynamo.Population.of`.

    Raises:
        DynamoError: data or metadata of another form, or a network that cannot be wrapped without being told how.
    """
    if not isinstance(models, Mapping):
        raise InvalidValueError(f"the models are a {type(models).__name__}: give a dict of name and network")
    tables, encodings = tables_of(metadata, list(models)), dict(encodings or {})
    for name in encodings.keys() - models.keys():
        raise InvalidValueError(f"an encoding is given for {name!r}: {did_you_mean(name, list(models))}")
    if isinstance(data, Dataset | StoredData | Spec | str):
        known = _wrapped_for(models, data, outputs, encodings)
        return [BaseModel(name, model, data, tables.get(name, {})) for name, model in known.items()]
    examples = examples_of(data, tokenizer)
    targets = examples.targets
    kind = outputs or (None if targets is None else "real" if targets.is_floating_point() else "classes")
    if encodings and all(name in encodings for name in models):
        raise InvalidValueError(
            "all models read encodings of their own, and none what the meta-model reads: give a Dataset, which says "
            "of what space its inputs are"
        )
    made = {
        name: _as_model(name, model, examples.inputs, kind) for name, model in models.items() if name not in encodings
    }
    shared = next(iter(made.values())).inputs if made else None
    for name, encoding in encodings.items():
        assert shared is not None
        made[name] = _reencoded(name, models[name], encoding, examples.inputs, shared, kind)
    made = {name: made[name] for name in models}
    _tell_apart([model for name, model in made.items() if model is not models[name]])
    space = outputs if isinstance(outputs, OutputSpace) else None
    if targets is not None:
        spaces = list({model.outputs: None for model in made.values()})
        if len(spaces) > 1:
            raise InvalidValueError(
                f"the targets are those of one task, and the models have different outputs ({spaces[0]}; {spaces[1]}): "
                "leave the targets out, or make a population of those that are alike"
            )
        space = spaces[0] if spaces else None
        targets = fitting(targets, space) if space is not None else targets
    if shared is None:
        return []
    dataset = Dataset.of_probes(shared, examples.inputs, space, targets, held_out=held_out, seed=seed)
    return [BaseModel(name, model, dataset, tables.get(name, {})) for name, model in made.items()]


def _tell_apart(wrapped: Sequence[DynamicalModel]) -> None:
    """Give outputs that differ groups of their own, and so heads of their own."""
    if len({model.outputs for model in wrapped}) > 1:
        for model in wrapped:
            space = model.outputs
            model.outputs = attrs.evolve(space, group=f"{space.kind}-{space.size}-{space.readout}")


def _reencoded(
    name: str, model: nn.Module, encoding: str, probes: Inputs, shared: InputSpace, outputs: Any
) -> DynamicalModel:
    """A model that reads one of the encodings of the probes, wrapped for it where it is of another class."""
    try:
        found = probes.read_as(encoding)
    except DynamoError as error:
        raise error.at(f"model {name!r}") from None
    if isinstance(model, Reencoded):
        return model
    own = model
    if not isinstance(model, DynamicalModel):
        own = _as_model(name, model, found.inputs, outputs, found.space)
    assert isinstance(own, DynamicalModel)
    if own.inputs != found.space:
        raise InvalidValueError(
            f"model {name!r} reads {own.inputs}, and the encoding {encoding!r} is {found.space}: give it the encoding "
            "that it was trained on"
        )
    return Reencoded(own, encoding, shared)


def _wrapped_for(
    models: Mapping[str, nn.Module], data: Any, outputs: OutputSpace | Kind | None, encodings: Mapping[str, str]
) -> Mapping[str, Any]:
    """The models, those of other classes wrapped for a data set, those that read other encodings of it told so."""
    foreign = any(isinstance(model, nn.Module) and not isinstance(model, DynamicalModel) for model in models.values())
    if not foreign and not encodings:
        return models  # what is no network is refused with all else that is looked at in a population
    found: Dataset = data if isinstance(data, Dataset) else _made(data)
    probes = found.probes()
    wanted = found.outputs or outputs
    made: dict[str, Any] = {}
    for name, model in models.items():
        if name in encodings and isinstance(model, nn.Module):
            made[name] = _reencoded(name, model, encodings[name], probes, found.inputs, wanted)
        elif isinstance(model, nn.Module):
            made[name] = _as_model(name, model, probes, wanted, found.inputs)
        else:
            made[name] = model
    return made


def _made(data: StoredData | Spec | str) -> Dataset:
    return data.read() if isinstance(data, StoredData) else make("dataset", Spec.of(data), Dataset)


def _as_model(
    name: str, model: nn.Module, probes: Inputs, outputs: Any, space: InputSpace | None = None
) -> DynamicalModel:
    if isinstance(model, DynamicalModel):
        return model
    probes = probes[:_TRIED].plain
    try:
        found = wrap(model, inputs=probes if space is None else space, outputs=outputs, example=probes)
    except DynamoError as error:
        raise type(error)(
            f"model {name!r} is a {type(model).__name__}, which is no DynamicalModel, and cannot be wrapped without "
            f"being told how: {error}; write {{{name!r}: dynamo.wrap(network, inputs=…, states='NAME')}}"
        ) from None
    if outputs is not None and space is None and not isinstance(outputs, str) and found.outputs != outputs:
        raise InvalidValueError(f"model {name!r} has {found.outputs}, not {outputs}")
    return found

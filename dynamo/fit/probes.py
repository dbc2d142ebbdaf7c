"""Probe inputs: on what the emulators of a fit are compared. A few are kept with the fit, so that it needs no data."""

from math import prod
from pathlib import Path

import torch
from torch import Tensor

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import write_bytes
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs, check_inputs, collate
from dynamo.population.population import Population
from dynamo.system.storage import read_tensors, tensors_to_bytes

#: The file of a run folder that keeps them.
PROBES = "probes.safetensors"

#: How many probe inputs a fit keeps, if they take no more bytes than :data:`ROOM`.
KEPT = 256
ROOM = 2**23


def draw_probes(population: Population, examples: int | None = KEPT, seed: int = 0) -> Inputs:
    """Inputs for all models alike, in equal shares from the probe inputs of the population's data sets.

    Args:
        population: the base models.
        examples: how many; None for all there are.
        seed: of the draw.

    Raises:
        DynamoError: fewer examples than data sets.
    """
    return collate([dataset.probes()[rows] for dataset, rows in drawn_rows(population, examples, seed)])


def drawn_rows(population: Population, examples: int | None = KEPT, seed: int = 0) -> list[tuple[Dataset, Tensor]]:
    """The data sets of a population, and the rows of their probe inputs that :func:`draw_probes` gives."""
    datasets = _datasets(population)
    if examples is not None and examples < len(datasets):
        raise DynamoError(f"{examples} examples cannot serve {len(datasets)} data sets: take more")
    generator = torch.Generator().manual_seed(seed)
    rows: list[tuple[Dataset, Tensor]] = []
    for number, dataset in enumerate(datasets):
        share = dataset.probe_size if examples is None else (examples + number) // len(datasets)
        rows.append((dataset, torch.randperm(dataset.probe_size, generator=generator)[:share].sort().values))
    return rows


def kept_probes(population: Population) -> Inputs:
    """The probe inputs that a fit keeps: :data:`KEPT`, or as many as fit into :data:`ROOM` bytes."""
    datasets = _datasets(population)
    sizes = [prod(part.values.shape[1:]) * part.values.element_size() for part in (d.train.inputs for d in datasets)]
    return draw_probes(population, max(len(datasets), min(KEPT, ROOM // max(1, *sizes, 1))))


def _datasets(population: Population) -> list[Dataset]:
    """The data sets of the models, each once."""
    return list({id(dataset): dataset for dataset in map(population.dataset, population)}.values())


def write_probes(folder: Path, probes: Inputs) -> None:
    """Keep probe inputs in a run folder."""
    write_bytes(folder / PROBES, tensors_to_bytes({"values": probes.values, "mask": probes.mask}))


def read_probes(folder: Path, digest: str | None, space: InputSpace) -> Inputs:
    """Read them back.

    Raises:
        DynamoError: the file is missing, damaged or changed, or holds no inputs of that space.
    """
    tensors = read_tensors(folder / PROBES, digest)
    if tensors.keys() != {"values", "mask"}:
        raise DynamoError(f"{folder / PROBES} must hold the tensors values and mask; it has {', '.join(tensors)}")
    probes = Inputs(tensors["values"], tensors["mask"])
    check_probes(probes, space)
    return probes


def check_probes(probes: Inputs, space: InputSpace, what: str = "probe inputs") -> None:
    """Raise a clear error where inputs are not of the kind that a fit takes; ``what`` they are, for the message."""
    steps = {"tokens": (), "real": space.shape, "image": space.shape}[space.kind]
    lead = 1 if space.kind == "image" else 2
    if probes.values.ndim != lead + len(steps) or tuple(probes.values.shape[lead:]) != steps:
        raise DynamoError(f"{what} of shape {tuple(probes.values.shape)} do not fit this map, which takes {space}")
    if (space.kind == "tokens") == probes.values.is_floating_point():
        raise DynamoError(f"{what} of type {probes.values.dtype} do not fit this map, which takes {space}")
    check_inputs(probes, where=f"the {what}", vocabulary=space.size if space.kind == "tokens" else None)

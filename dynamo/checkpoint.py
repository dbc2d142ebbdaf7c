"""Checkpoints: the state of a fit that is under way, one file for any number of processes."""

import io
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from dynamo import __version__
from dynamo.emulator import Emulator
from dynamo.errors import DynamoError
from dynamo.fit_options import FitOptions
from dynamo.population import Population
from dynamo.process_group import ProcessGroup
from dynamo.storage import check_format, load_plain, one_line, read_bytes, sha256, write_bytes

FORMAT = 1
#: Options that may be others when a fit goes on.
FREE = ("device", "checkpoint_every", "recording")
_KINDS: dict[str, type] = {
    "step": int,
    "population": str,
    "data": list,
    "options": dict,
    "emulator": dict,
    "optimizer": dict,
    "rng": Tensor,
    "seconds": float,
    "history": Tensor,
}


def write_checkpoint(path: Path | str, content: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        DynamoError: the disk is full, or the folder cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "dynamo": __version__, **content}, buffer)
    payload = buffer.getvalue()
    write_bytes(Path(path), sha256(payload).encode() + payload)


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's content, read as plain tensors and values.

    Raises:
        DynamoError: missing, damaged, or of another format.
    """
    content = read_bytes(Path(path))
    digest, payload = content[:64], content[64:]
    if sha256(payload).encode() != digest:
        raise DynamoError(
            f"{path} is no whole checkpoint (its checksum differs): it is truncated or was changed; start again "
            "without it"
        )
    try:
        loaded: dict[str, Any] = load_plain(payload)
        found, writer = loaded.get("format"), str(loaded.get("dynamo", "unknown"))
    except Exception as error:
        raise DynamoError(f"{path} is no checkpoint ({one_line(error)}): start again without it") from None
    check_format(Path(path), "checkpoint", found, FORMAT, writer)
    wrong = [key for key, kind in _KINDS.items() if not isinstance(loaded.get(key), kind)]
    if wrong:
        raise DynamoError(f"{path} is no checkpoint (it lacks {', '.join(wrong)}): start again without it")
    try:
        torch.Generator().set_state(loaded["rng"])
        steps = loaded["history"][:, 0].tolist()
        if not bool(loaded["history"].isfinite().all()) or steps != list(range(1, len(steps) + 1)):
            raise ValueError("its history is not of the steps 1, 2, … and finite numbers")
    except Exception as error:
        raise DynamoError(f"{path} is no checkpoint ({one_line(error)}): start again without it") from None
    return loaded


def check_belongs(path: Path | str, content: dict[str, Any], population: Population, options: FitOptions) -> None:
    """Raise a clear error where a checkpoint was made from another population or data, or with other options."""
    if content["population"] != population.fingerprint:
        raise DynamoError(
            f"{path} belongs to another population (its models' names or weights differ); fit into a new folder"
        )
    if content["data"] != population.data_fingerprints:
        raise DynamoError(f"{path} belongs to other data: a data set has changed since; fit into a new folder")
    mine = attrs.asdict(options)
    differing = [name for name in mine if mine[name] != content["options"].get(name) and name not in FREE]
    if differing:
        raise DynamoError(
            f"{path} was made with other options ({', '.join(differing)}); resume with the same, or fit into a "
            "new folder"
        )


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser a saved state.

    Raises:
        ValueError: it belongs to other parameters.
    """
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} of a parameter {tuple(parameter.shape)} has the shape {tuple(value.shape)}")


def gather_states(
    emulator: Emulator, processes: ProcessGroup, optimizer: torch.optim.Optimizer | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dicts of emulator and optimiser; those of rank 0 hold the models of all ranks."""
    weights = emulator.state_dict()
    moments = {"state": {}} if optimizer is None else optimizer.state_dict()
    if processes.size == 1:
        return weights, moments

    def mine(name: str) -> bool:
        number = emulator.number_of(name)
        return number is not None and processes.owns(number)

    names = {id(parameter): name for name, parameter in emulator.named_parameters()}
    groups = [] if optimizer is None else optimizer.param_groups
    order = [names[id(parameter)] for group in groups for parameter in group["params"]]
    own_weights = {name: tensor.cpu() for name, tensor in weights.items() if mine(name)}
    own_moments = {
        place: {key: value.cpu() if isinstance(value, Tensor) else value for key, value in entry.items()}
        for place, entry in moments["state"].items()
        if mine(order[place])
    }
    for their_weights, their_moments in processes.gather((own_weights, own_moments)):
        weights.update(their_weights)
        moments["state"].update(their_moments)
    return weights, moments


def gather_emulator(emulator: Emulator, processes: ProcessGroup) -> Emulator:
    """The emulator with the models of all ranks, at rank 0 and on the CPU; at the others their own share as it is."""
    weights, _ = gather_states(emulator, processes)
    if processes.size == 1 or processes.rank > 0:
        return emulator
    with torch.random.fork_rng(devices=[]):
        whole = Emulator(emulator.blueprint)
    whole.load_state_dict(weights)
    return whole.eval()

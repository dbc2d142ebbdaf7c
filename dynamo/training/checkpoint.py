"""Checkpoints: the state of a fit that is under way.

One process writes one file. Of several, each writes the share of its own base models to a file of its own beside it,
named by its checksum; the checkpoint, written last, holds what all share and names the shares, so that it is whole or
not there. Any number of processes can go on from either.
"""

import glob
import io
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import one_line, read_bytes, sha256, write_bytes
from dynamo.population.population import Population
from dynamo.system.process_group import ProcessGroup
from dynamo.system.storage import check_format, load_plain
from dynamo.training.emulator import Emulator
from dynamo.training.options import FitOptions
from dynamo.version import __version__

#: What it is called in a run folder.
CHECKPOINT = "checkpoint.pt"
#: 1: one file; 2: with shares beside it.
FORMATS = (1, 2)
#: Options that may be others when a fit goes on.
FREE = ("device", "checkpoint_every", "recording", "recording_cache", "recording_cache_size")
_KINDS: dict[str, type] = {
    "step": int,
    "population": str,
    "data": list,
    "options": dict,
    "emulator": dict,
    "optimizer": dict,
    "rng": Tensor,
    "device_rng": list,
    "seconds": float,
    "history": Tensor,
    "shares": dict,
}
_DIGEST = re.compile("[0-9a-f]{64}")


def write_checkpoint(
    path: Path | str,
    content: dict[str, Any],
    emulator: Emulator,
    optimizer: torch.optim.Optimizer,
    processes: ProcessGroup,
) -> None:
    """Write a checkpoint, whole or not at all; all processes call this. Shares of an older one are taken away last.

    Args:
        path: where to; several processes must see the same folder there.
        content: all but the states of emulator and optimiser.
        emulator, optimizer: what is trained.
        processes: who trains it.

    Raises:
        DynamoError: the disk is full, the folder cannot be written, or is not the same for all processes.
    """
    path, weights, moments, shares = Path(path), emulator.state_dict(), optimizer.state_dict(), {}
    if processes.size > 1:
        weights, moments["state"], own = _divided(emulator, optimizer, processes)
        shares = dict(processes.gather((_write_share(path, own), list(own))))
        if processes.rank > 0:
            return
        for rank, share in enumerate(shares):
            if not _share(path, share).exists():
                raise DynamoError(
                    f"rank {rank} has written its share of the checkpoint where rank 0 does not find it: {path.parent} "
                    "must be a folder that all machines share"
                )
        content = {**content, "shares": shares}
    payload = _saved(
        {"format": 2 if shares else 1, "dynamo": __version__, **content, "emulator": weights, "optimizer": moments},
        room=64,
    )
    payload[:64] = sha256(payload[64:]).encode()
    write_bytes(path, payload)
    _sweep(path, shares)


def _divided(
    emulator: Emulator, optimizer: torch.optim.Optimizer, processes: ProcessGroup
) -> tuple[dict[str, Tensor], dict[int, Any], dict[int, tuple[dict[str, Tensor], dict[int, Any]]]]:
    """The weights and the optimiser's entries that all ranks share, and those of each base model of this rank."""
    names = {id(parameter): name for name, parameter in emulator.named_parameters()}
    places = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    weights: dict[int | None, dict[str, Tensor]] = {}
    moments: dict[int | None, dict[int, Any]] = {}
    for name, tensor in emulator.state_dict().items():
        weights.setdefault(emulator.number_of(name), {})[name] = tensor
    for place, entry in optimizer.state_dict()["state"].items():
        moments.setdefault(emulator.number_of(places[place]), {})[place] = entry
    own = {number: (weights[number], moments.get(number, {})) for number in weights if number is not None}
    mine = {number: own[number] for number in own if processes.owns(number)}
    return weights.get(None, {}), moments.get(None, {}), mine


def _saved(content: Any, room: int = 0) -> memoryview:
    """The bytes of ``torch.save``, after so many empty ones; not copied, since they may be many."""
    buffer = io.BytesIO(bytes(room))
    buffer.seek(room)
    torch.save(content, buffer)
    return buffer.getbuffer()


def _write_share(path: Path, own: dict[int, Any]) -> str:
    """Write a rank's share; its checksum."""
    payload = _saved(own)
    digest = sha256(payload)
    write_bytes(_share(path, digest), payload)
    return digest


def _share(path: Path, digest: str) -> Path:
    return path.with_name(f"{path.name}-{digest}")


def _sweep(path: Path, kept: Collection[str]) -> None:
    for share in path.parent.glob(f"{glob.escape(path.name)}-*"):
        digest = share.name.removeprefix(f"{path.name}-")
        if _DIGEST.fullmatch(digest) and digest not in kept:
            with suppress(OSError):
                share.unlink()


def remove_checkpoint(path: Path) -> None:
    """Take a checkpoint away with its shares, and shares of one that was not finished."""
    path.unlink(missing_ok=True)
    _sweep(path, ())


def read_checkpoint(path: Path | str, owns: Callable[[int], bool] = lambda number: True) -> dict[str, Any]:
    """A checkpoint's content, read as plain tensors and values.

    Args:
        path: the file.
        owns: whether a base model, by its number, is wanted; shares without any stay unread.

    Raises:
        DynamoError: missing, damaged, or of another format.
    """
    path = Path(path)
    content = read_bytes(path, within=path.parent)
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
        raise _nonsense(path, one_line(error)) from None
    check_format(path, "checkpoint", found, FORMATS, writer)
    loaded.setdefault("shares", {})
    loaded.setdefault("device_rng", [])  # as it was before there were fits on other devices than the CPU
    wrong = [key for key, kind in _KINDS.items() if not isinstance(loaded.get(key), kind)]
    if wrong:
        raise _nonsense(path, f"it lacks {', '.join(wrong)}")
    try:
        torch.Generator().set_state(loaded["rng"])
        if not all(isinstance(state, Tensor) and state.dtype == torch.uint8 for state in loaded["device_rng"]):
            raise ValueError("what it says of random numbers is no state of a generator")
        steps = loaded["history"][:, 0].tolist()
        if not bool(loaded["history"].isfinite().all()) or steps != list(range(1, len(steps) + 1)):
            raise ValueError("its history is not of the steps 1, 2, … and finite numbers")
    except Exception as error:
        raise _nonsense(path, one_line(error)) from None
    try:
        for share, numbers in loaded.pop("shares").items():
            _add_share(path, share, list(filter(owns, numbers)), loaded)
    except DynamoError:
        raise
    except Exception as error:
        raise _nonsense(path, f"of its shares: {one_line(error)}") from None
    return loaded


def _add_share(path: Path, digest: str, wanted: Sequence[int], content: dict[str, Any]) -> None:
    """Put the wanted base models of a share beside what all share."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no checksum")
    if wanted:
        models = load_plain(read_bytes(_share(path, digest), digest, within=path.parent))
        for number in wanted:
            weights, moments = models[number]
            content["emulator"].update(weights)
            content["optimizer"]["state"].update(moments)


def _nonsense(path: Path, why: object) -> DynamoError:
    return DynamoError(f"{path} is no checkpoint ({why}): start again without it")


def check_belongs(path: Path | str, content: dict[str, Any], population: Population, options: FitOptions) -> None:
    """Raise a clear error where a checkpoint was made from another population or data, or with other options."""
    if content["population"] != population.fingerprint:
        raise DynamoError(
            f"{path} belongs to another population (its models' names or weights differ); fit into a new folder"
        )
    if content["data"] != population.data_fingerprints:
        raise DynamoError(f"{path} belongs to other data: a data set has changed since; fit into a new folder")
    mine, before = attrs.asdict(options), attrs.asdict(FitOptions())  # an option of a later version had its default
    before |= content["options"]
    differing = [name for name in mine if mine[name] != before[name] and name not in FREE]
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


def gather_emulator(emulator: Emulator, processes: ProcessGroup) -> Emulator:
    """The emulator with the models of all ranks, at rank 0 and on the CPU; at the others their own share as it is."""
    if processes.size == 1:
        return emulator
    weights = emulator.state_dict()
    numbers = {name: emulator.number_of(name) for name in weights}
    own = {
        name: weights[name].cpu() for name, number in numbers.items() if number is not None and processes.owns(number)
    }
    for theirs in processes.gather(own):
        weights.update(theirs)
    if processes.rank > 0:
        return emulator
    with torch.random.fork_rng(devices=[]):
        whole = Emulator(emulator.blueprint)
    whole.load_state_dict(weights)
    return whole.eval()

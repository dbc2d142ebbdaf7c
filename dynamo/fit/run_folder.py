"""What a fit leaves in a run folder: ``run.toml`` with all that is no tensor, ``fit.safetensors``, and tables.

Of a fit by several processes ``fit.safetensors`` holds what all base models share, and each process writes the V_n and
θ_n of its own base models beside it. A fit is opened without its V_n: they are read when they are asked for.
"""

import platform
from collections.abc import Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import check_digest, read_bytes, sha256, write_bytes
from dynamo.contracts.options import build_options, plain_table
from dynamo.fit.probes import PROBES, read_probes, write_probes
from dynamo.population.base_model import check_metadata
from dynamo.population.entries import MANIFEST
from dynamo.population.weights import built_without_memory, check_shapes, fill_module, load_module
from dynamo.system.process_group import ProcessGroup
from dynamo.system.storage import read_toml, tensors_to_bytes, write_csv, write_toml
from dynamo.system.tensor_files import TensorFile
from dynamo.training.blueprint import Blueprint, blueprint_table, read_blueprint
from dynamo.training.checkpoint import CHECKPOINT
from dynamo.training.emulator import Emulator
from dynamo.training.on_demand import OnDemand
from dynamo.training.options import FitOptions
from dynamo.training.trainer import HISTORY
from dynamo.version import __version__

if TYPE_CHECKING:
    from dynamo.fit.fit import Fit

RUN = "run.toml"
WEIGHTS = "fit.safetensors"
HISTORY_FILE = "history.csv"
FIDELITY = "fidelity.csv"
#: What is made from a fit and lies beside it.
REPORTS = (FIDELITY, "embedding.csv", "map.png", "map.svg")
#: 1: all tensors in one file; 2: those of base models in files of their own.
FORMATS = (1, 2)
_KNOWN = ("versions", "sha256", "shares", "files", "seconds", "population", "options", "emulator", "metadata", "labels")


def save_fit(fit: "Fit", folder: Path, processes: ProcessGroup) -> None:
    """Write a run folder; all processes that share the fit call this, and each writes what is its own. ``run.toml``,
    without which it is no run, is written last.

    Raises:
        DynamoError: the folder holds a run already, is not the same for all processes, or the disk refuses.
    """
    if (folder / RUN).exists():
        raise DynamoError(f"{folder} holds a run already: choose another folder")
    weights, shares = fit.emulator.state_dict(), {}
    if processes.size > 1:
        numbers = {name: fit.emulator.number_of(name) for name in weights}
        mine = {name for name, number in numbers.items() if number is not None and processes.owns(number)}
        name, content = f"fit-{processes.rank}.safetensors", tensors_to_bytes({key: weights[key] for key in mine})
        write_bytes(folder / name, content)
        shares = dict(processes.gather((name, sha256(content))))
        if processes.rank > 0:
            return
        weights = {name: tensor for name, tensor in weights.items() if numbers[name] is None}
    for name in REPORTS:  # of a fit whose run.toml is gone
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("fit-*.safetensors"):  # of one that was not finished, by more processes
        if path.name not in shares:
            path.unlink()
    content = tensors_to_bytes(weights)
    write_bytes(folder / WEIGHTS, content)
    write_csv(folder / HISTORY_FILE, HISTORY, [(int(row[0]), *row[1:]) for row in fit.history])
    written = [HISTORY_FILE]
    if fit.probes is not None:
        write_probes(folder, fit.probes)
        written.append(PROBES)
    table = {
        "format": FORMATS[bool(shares)],
        "dynamo": __version__,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "sha256": sha256(content),
        "shares": shares or None,
        "files": {name: sha256(read_bytes(folder / name)) for name in written},
        "seconds": fit.seconds,
        "population": dict(fit.source),
        "options": plain_table(attrs.asdict(fit.options)),
        "emulator": blueprint_table(fit.emulator.blueprint),
        "metadata": [dict(metadata) for metadata in fit.metadata],
    }
    write_toml(folder / RUN, table)


def load_fit(folder: Path) -> "Fit":
    """Read a run folder.

    Raises:
        DynamoError: it is missing, unfinished, damaged, of another version, or names a component that is not
        installed.
    """
    from dynamo.fit.fit import Fit

    if not (folder / RUN).exists():
        raise DynamoError(f"there is no finished run at {folder}: {_why_none(folder)}")
    table, where = _read_table(folder), str(folder / RUN)
    if "labels" in table:  # as it was called until 0.1
        table["metadata"] = table.pop("labels")
    missing = {"emulator", "options", "metadata", "sha256"} - table.keys()
    if missing:
        raise DynamoError(f"{where} lacks {', '.join(sorted(missing))}")
    source, seconds, metadata = table.get("population", {}), table.get("seconds", 0.0), table["metadata"]
    if not (isinstance(table["options"], dict) and isinstance(source, dict) and type(seconds) in (int, float)):
        raise DynamoError(f"{where}: options and population must be tables, seconds a number")
    blueprint = read_blueprint(table["emulator"], where)
    if not isinstance(metadata, list) or len(metadata) != len(blueprint.subjects):
        raise DynamoError(f"{where}: 'metadata' must be a list with a table for each base model")
    for subject, own in zip(blueprint.subjects, metadata, strict=True):
        check_metadata(own, f"{where}, model {subject.name!r}")
    shares = table.get("shares", {})
    if not isinstance(shares, dict) or not all(Path(name).name == name for name in shares):
        raise DynamoError(f"{where}: 'shares' must be a table of files in the run folder")
    stored = []
    for name, digest in {WEIGHTS: table["sha256"], **shares}.items():
        check_digest(folder / name, str(digest), within=folder)
        stored.append(TensorFile.open(folder / name))
    emulator = open_emulator(blueprint, stored, str(folder / WEIGHTS))
    options = build_options(FitOptions, table["options"], where=where)
    files = saved_files(folder) or {}
    history = _read_history(folder / HISTORY_FILE, files.get(HISTORY_FILE))
    probes = read_probes(folder, files[PROBES], blueprint.inputs) if PROBES in files else None
    return Fit(emulator, options, metadata, source, history, float(seconds), probes, folder)


def open_emulator(blueprint: Blueprint, files: Sequence[TensorFile], where: str) -> Emulator:
    """An emulator whose tensors are in files. Meta-model, heads and thetas are read; the V_n of a base model when they
    are asked for.

    Args:
        blueprint: of the emulator.
        files: they hold each tensor once.
        where: what the files belong to, for messages.

    Raises:
        DynamoError: the tensors do not fit the blueprint.
    """
    homes = {name: file for file in files for name in file.forms}
    forms = {name: file.forms[name] for name, file in homes.items()}
    check_shapes(_expected(blueprint, where, len(homes)), forms, where)

    def stored(prefix: str, names: Sequence[str]) -> dict[str, Tensor]:
        """The tensors of a part, by their names in it."""
        found: dict[str, Tensor] = {}
        for file in {id(homes[prefix + name]): homes[prefix + name] for name in names}.values():
            found |= file.read([prefix + name for name in names if homes[prefix + name] is file])
        return {name: found[prefix + name] for name in names}

    common = attrs.evolve(blueprint, subjects=())
    names = [name for name in homes if name.partition(".")[0] in ("meta_model", "heads")]
    with torch.random.fork_rng(devices=[]):
        emulator = load_module(partial(Emulator, common), stored("", names), where)
    emulator.blueprint = blueprint
    thetas = nn.ParameterList(torch.zeros(blueprint.theta_dim) for _ in blueprint.subjects)
    emulator.thetas = fill_module(thetas, stored("thetas.", list(thetas.state_dict())), where)

    def filled(part: nn.Module, prefix: str) -> nn.Module:
        return fill_module(part, stored(prefix, list(part.state_dict())), where).eval()

    def maps(number: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return filled(emulator.new_maps(number), f"state_maps.{number}.")

    count = len(blueprint.subjects)
    emulator.readings = OnDemand(count, lambda number: filled(emulator.new_reading(number), f"readings.{number}."))
    emulator.state_maps = OnDemand(count, maps)
    return _evaluating(emulator)


def _evaluating(emulator: Emulator) -> Emulator:
    """In eval mode, but for the parts that are not read yet and come in that mode."""
    for part in (emulator, emulator.readings, emulator.state_maps):
        part.training = False
    for read in (emulator.meta_model, emulator.heads, emulator.thetas):
        read.eval()
    return emulator


def _expected(blueprint: Blueprint, where: str, tensors: int) -> dict[str, Tensor]:
    """The state dict of an emulator, without memory. Of base models with states of the same shapes one is built."""
    shapes = [subject.state_shapes for subject in blueprint.subjects]
    kinds = {own: number for number, own in enumerate(dict.fromkeys(shapes))}
    one_of_each = tuple(blueprint.subjects[shapes.index(own)] for own in kinds)
    build = partial(Emulator, attrs.evolve(blueprint, subjects=one_of_each))
    small = built_without_memory(build, where, max(2**16, 16 * tensors))
    of_kinds: dict[int | None, dict[str, Tensor]] = {}
    for name, tensor in small.state_dict().items():
        of_kinds.setdefault(small.number_of(name), {})[name] = tensor
    expected = of_kinds.get(None, {})
    for number, own in enumerate(shapes):
        for name, tensor in of_kinds[kinds[own]].items():
            part, _, rest = name.partition(".")
            _, dot, rest = rest.partition(".")
            expected[f"{part}.{number}{dot}{rest}"] = tensor
    return expected


def _read_table(folder: Path) -> dict[str, Any]:
    return read_toml(folder / RUN, what="run folder", format_version=FORMATS, known=_KNOWN)


def _why_none(folder: Path) -> str:
    """Why a folder is no run, and what to do."""
    if (folder / CHECKPOINT).exists():
        return "its fit is not finished: go on with `dynamo fit --resume`"
    if (folder / MANIFEST).exists():
        return f"it is a population: make a run of it with `dynamo fit {folder}`"
    if folder.is_dir():
        return f"the folder has no {RUN}, with which a run ends: make one with `dynamo fit POPULATION`"
    return f"it is {'a file' if folder.exists() else 'not there'}: make a run with `dynamo fit POPULATION`"


def add_file(folder: Path, name: str) -> None:
    """Let ``run.toml`` keep the checksum of a further file of a run folder."""
    table = _read_table(folder)
    files = {**table.get("files", {}), name: sha256(read_bytes(folder / name, within=folder))}
    write_toml(folder / RUN, {**table, "files": files})


def saved_files(folder: Path) -> dict[str, str] | None:
    """The files of a run folder with their checksums; None where it keeps none."""
    files = _read_table(folder).get("files") if (folder / RUN).exists() else None
    return {name: str(digest) for name, digest in files.items()} if isinstance(files, dict) else None


def _read_history(path: Path, digest: str | None) -> list[tuple[float, ...]]:
    lines = read_bytes(path, digest, within=path.parent).decode(errors="replace").splitlines()
    try:
        rows = [tuple(float(cell) for cell in line.split(",")) for line in lines[1:]]
    except ValueError as error:
        raise DynamoError(f"cannot read {path}: {error}") from None
    if lines[:1] != [",".join(HISTORY)] or not all(
        len(row) == len(HISTORY) and row[0] == number and all(map(isfinite, row))
        for number, row in enumerate(rows, start=1)
    ):
        raise DynamoError(
            f"cannot read {path}: it must have the columns {', '.join(HISTORY)}, the steps 1, 2, … and finite numbers"
        )
    return rows

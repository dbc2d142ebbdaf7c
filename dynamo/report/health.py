"""What of an installation works: ``dynamo doctor``."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import attrs
import torch
from packaging.requirements import Requirement

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError, PluginError
from dynamo.registry import DISABLED, make, registry
from dynamo.system.devices import find_device
from dynamo.system.storage import check_writable
from dynamo.system.tables import Table
from dynamo.version import __version__

#: The name of the distribution.
DISTRIBUTION = "dynamo-embedding"
#: Bytes of free room below which a disk is short of it, and below which nothing can be written in earnest.
SHORT, NONE = 2**31, 2**26
#: Allocators that are preloaded in place of that of the C library.
ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")

State = Literal["ok", "note", "broken"]


@attrs.frozen
class Finding:
    """One thing that was looked at.

    Attributes:
        part: what it belongs to.
        name: what it is.
        told: what was found.
        state: ``broken`` where something that is there does not work; ``note`` where something optional is missing, or
            there is something to know.
    """

    part: str
    name: str
    told: str
    state: State = "ok"


def examine(folder: Path) -> list[Finding]:
    """Look at an installation.

    Args:
        folder: where runs shall be written.
    """
    return [
        finding
        for part in (_packages, _devices, _threads, _plugins, _data, lambda: _room(folder))
        for finding in part()
    ]


def findings_table(findings: list[Finding]) -> Table:
    """Columns and rows: a row for each."""
    return ["part", "name", "state", "what was found"], [
        [finding.part, finding.name, finding.state, finding.told] for finding in findings
    ]


def _packages() -> Iterator[Finding]:
    yield Finding("versions", "python", platform.python_version())
    yield Finding("versions", "dynamo", __version__)
    try:
        needed = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        advice = f"{DISTRIBUTION} is not installed, so that its plugins are not known: pip install ."
        yield Finding("versions", DISTRIBUTION, advice, "broken")
        return
    seen: set[str] = set()
    for requirement in sorted(needed, key=lambda one: (one.marker is not None, one.name)):
        extra = _extra(requirement)
        if requirement.marker is not None and not extra and not requirement.marker.evaluate():
            continue  # of another platform
        if requirement.name in seen or extra in ("dev", "docs") or requirement.name == DISTRIBUTION:
            continue
        seen.add(requirement.name)
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            advice = f"not installed: pip install '{requirement.name}{requirement.specifier}'"
            yield Finding("versions", requirement.name, advice, "note" if extra else "broken")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            yield Finding("versions", requirement.name, found)
        else:
            advice = f"{found}, but {requirement.specifier} is needed: pip install -U {requirement.name}"
            yield Finding("versions", requirement.name, advice, "broken")


def _extra(requirement: Requirement) -> str:
    """The extra that asks for a package; empty where it is always needed."""
    return str(requirement.marker).partition("extra == ")[2].strip("\"' ") if requirement.marker else ""


def _devices() -> Iterator[Finding]:
    yield Finding("devices", "cpu", platform.processor() or platform.machine())
    names = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    for name in names:
        try:
            device = find_device(name)
            told = torch.cuda.get_device_name(device) if device.type == "cuda" else "Apple's"
            yield Finding("devices", name, told)
        except (DynamoError, RuntimeError) as error:
            yield Finding("devices", name, str(error).partition("\n")[0], "broken")
    if not names:
        built = torch.version.cuda or torch.version.hip
        told = "none"
        if built:
            told = f"none, though torch is built for CUDA or ROCm {built}: is there a driver (nvidia-smi)?"
        yield Finding("devices", "accelerator", told, "note")


def _threads() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, chosen = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    told = f"{threads} on {cores} cores" + (f" (OMP_NUM_THREADS={chosen})" if chosen else "")
    if threads > cores:
        yield Finding("threads", "torch", f"{told}: give --threads {cores}", "note")
    else:
        yield Finding("threads", "torch", told)
    yield Finding("threads", "allocator", _allocator())


def _allocator(maps: Path = Path("/proc/self/maps")) -> str:
    """What memory comes from: the allocator that is loaded into this process."""
    try:
        loaded = maps.read_text(errors="replace")
    except OSError:  # not Linux
        loaded = os.environ.get("LD_PRELOAD", "") + os.environ.get("DYLD_INSERT_LIBRARIES", "")
    return next((name for name in ALLOCATORS if name in loaded), "that of the C library")


def _plugins() -> Iterator[Finding]:
    try:
        found = registry()
    except DynamoError as error:  # two plugins offer the same name
        yield Finding("plugins", "all", str(error), "broken")
        return
    counts: dict[str, int] = {}
    for owned in found.owned():
        counts[owned.owner] = counts.get(owned.owner, 0) + 1
    for owner, count in sorted(counts.items()):
        yield Finding("plugins", owner, f"{count} component{'s' * (count > 1)}")
    for broken in found.broken:
        yield Finding("plugins", broken.owner, broken.reason, "broken")
    disabled = os.environ.get(DISABLED)
    if disabled:
        yield Finding("plugins", disabled, f"switched off by {DISABLED}", "note")
    if not counts and not found.broken:
        yield Finding("plugins", "all", f"none is installed: pip install {DISTRIBUTION}", "broken")


def _data() -> Iterator[Finding]:
    """Which data sets can be built without options."""
    try:
        names = registry().names("dataset")
    except DynamoError:
        return  # told already
    for name in names:
        try:
            made = make("dataset", name, Dataset)
        except DynamoError as error:
            told = str(error).removeprefix(f"data set {name!r} ").removeprefix(f"data set {name!r}: ")
            yield Finding("data", name, told, "broken" if isinstance(error, PluginError) else "note")
        else:
            yield Finding("data", name, f"{len(made.train)} examples to train on, {len(made.test)} to test")


def _room(folder: Path, usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage) -> Iterator[Finding]:
    for name, place in (("here", folder), ("temporary files", Path(tempfile.gettempdir()))):
        try:
            check_writable(place)
            free = usage(place)[2]
        except (DynamoError, OSError) as error:
            yield Finding("disk", name, str(error), "broken")
            continue
        state: State = "broken" if free < NONE else "note" if free < SHORT else "ok"
        yield Finding("disk", name, f"{free / 2**30:.1f} GiB free in {place}", state)

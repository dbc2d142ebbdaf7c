"""Trials of recorded systems, read from whatever arrays a user has: checked, of single precision, with what was not
observed marked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from dynamo.contracts.errors import DynamoError, did_you_mean

Array = NDArray[np.float32]
Booleans = NDArray[np.bool_]
Missing = Literal["refuse", "mask"]
Read = TypeVar("Read")


@attrs.frozen(eq=False)
class Trial:
    """One trial of one system.

    Attributes:
        states: ``[T, H]``, zero where nothing was observed.
        observed: ``[T]``.
        inputs: ``[T, D]``; None where there are none.
        outputs: ``[T, K]``; None where there are none.
        number: of the trial as it was given.
    """

    states: Array
    observed: Booleans
    inputs: Array | None
    outputs: Array | None
    number: int

    def __len__(self) -> int:
        return len(self.states)

    @property
    def end(self) -> int:
        """The step after the last that was observed."""
        return int(np.flatnonzero(self.observed).max(initial=-1)) + 1

    def cut(self, start: int, stop: int) -> "Trial":
        """Some steps of it."""
        steps = slice(start, stop)
        parts = [None if part is None else part[steps] for part in (self.inputs, self.outputs)]
        return Trial(self.states[steps], self.observed[steps], parts[0], parts[1], self.number)


def read_systems(
    states: Any, inputs: Any, outputs: Any, mask: Any, names: Sequence[str] | None, missing: Missing
) -> dict[str, list[Trial]]:
    """The trials of every system by its name, without unobserved steps at their ends (of all systems, where they share
    their inputs); see :meth:`dynamo.Population.from_recordings`.

    Raises:
        DynamoError: arrays that are no numbers, of other shapes or that do not fit one another, or missing values.
    """
    if missing not in ("refuse", "mask"):
        raise DynamoError(f"missing is {missing!r}: {did_you_mean(str(missing), ('refuse', 'mask'))}")
    given = _by_system(states, names, "states", 4)
    shared = inputs is not None and is_shared(inputs)
    driven = dict.fromkeys(given, inputs) if shared else _matched(inputs, given, "inputs", 4)
    answers, masks = _matched(outputs, given, "outputs", 4), _matched(mask, given, "mask", 3)
    systems = {
        name: _read_system(name, own, driven.get(name), answers.get(name), masks.get(name), missing)
        for name, own in given.items()
    }
    if not shared:
        return {name: [trial.cut(0, trial.end) for trial in trials] for name, trials in systems.items()}
    ends = [max(trial.end for trial in alike) for alike in zip(*systems.values(), strict=True)]
    return {
        name: [trial.cut(0, end) for trial, end in zip(trials, ends, strict=True)] for name, trials in systems.items()
    }


def is_shared(inputs: Any) -> bool:
    """Whether inputs are those of one set of trials, for all systems alike, and not given system by system."""
    if isinstance(inputs, Mapping):
        return False
    if isinstance(inputs, list | tuple):
        return bool(inputs) and all(_dimensions(part) == 2 for part in inputs)
    return _dimensions(inputs) == 3


def _dimensions(value: Any) -> int:
    """Of an array or nested lists of numbers; 0 where they are ragged or no numbers."""
    if hasattr(value, "ndim"):
        return int(value.ndim)
    try:
        return np.asarray(value, dtype=np.float64).ndim
    except (TypeError, ValueError):
        return 0


def _by_system(values: Any, names: Sequence[str] | None, what: str, dimensions: int) -> dict[str, Any]:
    """What is given for each system, by its name."""
    if isinstance(values, Mapping):
        if names is not None and list(names) != list(values):
            raise DynamoError(f"{what} are given by name, so leave names out (or give the same, in the same order)")
        found = {str(name): own for name, own in values.items()}
    else:
        if hasattr(values, "ndim") and values.ndim != dimensions:
            raise DynamoError(
                f"{what} have the shape {tuple(values.shape)}; one array for all systems is "
                f"[system, trial, time{', unit' if dimensions == 4 else ''}]: put the array of a single system into a "
                "list"
            )
        if not hasattr(values, "__len__") or isinstance(values, str):
            raise DynamoError(f"{what} are a {type(values).__name__}: give an array, a list with an item a system, or "
                              "a dict by name")  # fmt: skip
        listed = list(values)
        if names is not None and len(names) != len(listed):
            raise DynamoError(f"there are {what} of {len(listed)} systems, and {len(names)} names")
        width = len(str(max(len(listed) - 1, 0)))
        called = (
            [f"system-{n:0{width}}" for n in range(len(listed))] if names is None else [str(name) for name in names]
        )
        found = dict(zip(called, listed, strict=True))
        if len(found) < len(listed):
            raise DynamoError(f"two systems have one name: {', '.join(sorted(called))}")
    if not found:
        raise DynamoError(f"there are no {what}: give those of at least one system")
    return found


def _matched(values: Any, systems: Mapping[str, Any], what: str, dimensions: int) -> dict[str, Any]:
    """What else is given for each system; nothing where it is not given."""
    if values is None:
        return {}
    found = _by_system(values, None if isinstance(values, Mapping) else list(systems), what, dimensions)
    for one, other, lacks in ((systems, found, f"no {what} are"), (found, systems, f"{what} but no states are")):
        rest = sorted(set(one) - set(other))
        if rest:
            raise DynamoError(f"{lacks} given for the system {rest[0]!r}: {did_you_mean(rest[0], other)}")
    return found


def _read_system(name: str, states: Any, inputs: Any, outputs: Any, mask: Any, missing: Missing) -> list[Trial]:
    where = f"system {name!r}"
    trials = _arrays(states, f"{where}: states", "[trial, time, unit]")
    others = {
        what: _arrays(given, f"{where}: {what}", f"[trial, time, {of}]")
        for what, given, of in (("inputs", inputs, "input"), ("outputs", outputs, "output"))
        if given is not None
    }
    masks = None if mask is None else _masks(mask, f"{where}: mask")
    for what, parts in {**others, "mask": masks}.items():
        if parts is not None and len(parts) != len(trials):
            raise DynamoError(f"{where} has {len(trials)} trials of states and {len(parts)} of {what}: give as many")
    return [
        _read_trial(
            f"{where}, trial {number}",
            number,
            trial,
            others["inputs"][number] if inputs is not None else None,
            others["outputs"][number] if outputs is not None else None,
            None if masks is None else masks[number],
            missing,
        )
        for number, trial in enumerate(trials)
    ]


def _read_trial(
    where: str, number: int, states: Array, inputs: Array | None, outputs: Array | None, mask: Any, missing: Missing
) -> Trial:
    observed = np.ones(len(states), dtype=bool) if mask is None else mask
    for what, part in (("inputs", inputs), ("outputs", outputs), ("the mask", observed)):
        if part is not None and len(part) != len(states):
            raise DynamoError(f"{where} has {len(states)} steps of states and {len(part)} of {what}: give as many")
    if inputs is not None and not np.isfinite(inputs).all():
        step = int(np.flatnonzero(~np.isfinite(inputs).all(1))[0])
        raise DynamoError(f"{where}: the inputs are NaN or infinite at step {step}: they must be known at every step")
    for what, part in (("states", states), ("outputs", outputs)):
        if part is None:
            continue
        lacking = observed & ~np.isfinite(part).all(1)
        if lacking.any() and (missing == "refuse" or np.isinf(part[lacking]).any()):
            kind = "infinite" if np.isinf(part[lacking]).any() else "NaN"
            remedy = "" if kind == "infinite" else "; missing='mask' takes such steps as not observed"
            raise DynamoError(
                f"{where}: the {what} are {kind} at {int(lacking.sum())} of {len(part)} steps, the first of them "
                f"{int(np.flatnonzero(lacking)[0])}: repair them, or say with a mask what was observed{remedy}"
            )
        observed = observed & ~lacking
    if not observed.any():
        raise DynamoError(f"{where} has no observed step: leave it out")
    states = np.where(observed[:, None], states, np.float32(0))
    outputs = None if outputs is None else np.where(observed[:, None], outputs, np.float32(0))
    return Trial(states, observed, inputs, outputs, number)


def _each(values: Any, dimensions: int, read: Callable[[Any, str], Read], where: str) -> list[Read]:
    """The trials of one system: of an array with a dimension of trials, of a list, or of one trial alone."""
    if _dimensions(values) == dimensions:
        return [read(values, where)]
    if not hasattr(values, "__len__") or isinstance(values, str | bytes | Mapping):
        raise DynamoError(f"{where} are a {type(values).__name__}: give an array, or a list with an item a trial")
    if len(values) == 0:
        raise DynamoError(f"{where}: there are no trials: give at least one")
    return [read(trial, f"{where}, trial {number}") for number, trial in enumerate(values)]


def _arrays(values: Any, where: str, wanted: str) -> list[Array]:
    """The trials of one system, ``[T, D]`` each."""

    def read(value: Any, where: str) -> Array:
        array = _numbers(value, where)
        if array.ndim != 2 or 0 in array.shape:
            raise DynamoError(f"{where}: a trial has the shape {list(array.shape)}; give {wanted}, none of them 0")
        return array

    found = _each(values, 2, read, where)
    sizes = {array.shape[1] for array in found}
    if len(sizes) > 1:
        raise DynamoError(
            f"{where}: trials have {' and '.join(map(str, sorted(sizes)))} {wanted[14:-1]}s: give equally many"
        )
    return found


def _numbers(value: Any, where: str) -> Array:
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "fiu":
        raise DynamoError(f"{where} are {array.dtype}: give real numbers")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if array.dtype.kind == "f" and bool((np.isinf(single) & np.isfinite(array)).any()):
        raise DynamoError(f"{where} has values beyond the range of float32, in which they are used: scale them")
    return single


def _masks(values: Any, where: str) -> list[Booleans]:
    """The masks of one system, ``[T]`` each."""

    def read(value: Any, where: str) -> Booleans:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.ndim != 1 or array.dtype != bool:
            raise DynamoError(
                f"{where} is {array.dtype} {list(array.shape)}; give bool [trial, time], true where observed"
            )
        return array

    return _each(values, 1, read, where)

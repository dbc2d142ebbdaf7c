"""Recordings from a file: ``.npz``, or HDF5 (``.h5``, ``.hdf5``, ``.nc`` of netCDF-4) with the package ``h5py``.

A name says what an array is. What is given system by system is one array for all, or one for each as ``what/system``,
in HDF5 a group with a data set for each::

    states    [system, trial, time, unit]      states/NAME    [trial, time, unit]
    inputs    [trial, time, input], for all    inputs/NAME    [trial, time, input]
    outputs   [system, trial, time, output]    outputs/NAME   [trial, time, output]
    mask      [system, trial, time], bool      mask/NAME      [trial, time]
    metadata/KEY  [system]: numbers, truth values or texts, in the order of the states
    names         [system]: texts, where the states are one array
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.files import LARGEST_FILE, one_line, read_arrays, read_bytes
from dynamo.population.population import Population

if TYPE_CHECKING:
    Arrays = dict[str, NDArray[Any]]

#: What a file may hold, as one array or by system.
PARTS = ("states", "inputs", "outputs", "mask")
HDF5 = (".h5", ".hdf5", ".nc")


def read_recordings(path: Path | str, **options: Any) -> Population:
    """A population of recorded systems from a file; its layout is that of this module.

    Args:
        path: the file.
        options: of :meth:`dynamo.Population.from_recordings`.

    Raises:
        DynamoError: the file is missing or damaged, has an array that nothing would read, lacks the states, or what
            :meth:`dynamo.Population.from_recordings` finds.

    Example:
        >>> import numpy as np
        >>> from dynamo.population.doors.recordings import read_recordings
        >>> states = np.random.default_rng(0).normal(size=(3, 10, 20, 4))  # [system, trial, time, unit]
        >>> np.savez("systems.npz", states=states, **{"metadata/gain": [0.5, 1.0, 1.5]})
        >>> [base.metadata["gain"] for base in read_recordings("systems.npz")]
        [0.5, 1.0, 1.5]
    """
    path = Path(path)
    arrays = _read(path)
    names = arrays.pop("names", None)
    metadata = {key.partition("/")[2]: arrays.pop(key) for key in sorted(arrays) if key.startswith("metadata/")}
    parts = {what: _part(arrays, what, path) for what in PARTS}
    if parts["states"] is None:
        raise DynamoError(f"{path} has no states: it needs the array 'states', or one 'states/NAME' for each system")
    for key in arrays:
        known = did_you_mean(key, (*PARTS, "names", "metadata/KEY"))
        raise DynamoError(f"{path} has the array {key!r}, which nothing would read: {known}")
    try:
        columns = {key: _column(values, f"metadata/{key}") for key, values in metadata.items()}
        called = None if names is None else [str(name) for name in _column(names, "names")]
        return Population.from_recordings(**parts, names=called, metadata=columns or None, **options)
    except DynamoError as error:
        raise error.at(str(path)) from None


def _part(arrays: "Arrays", what: str, path: Path) -> Any:
    """What the file says of all systems: one array, or a dict by name; what is read is taken out."""
    named = {key.partition("/")[2]: arrays.pop(key) for key in list(arrays) if key.startswith(f"{what}/")}
    if named and what in arrays:
        raise DynamoError(f"{path} has the array {what!r} and also '{what}/{next(iter(named))}': give one or the other")
    return named or arrays.pop(what, None)


def _column(values: "NDArray[Any]", what: str) -> list[Any]:
    """A value for each system: numbers, truth values or texts."""
    if values.ndim != 1 or values.dtype.kind not in "biufUSO":
        raise DynamoError(
            f"{what} is {values.dtype} {list(values.shape)}; give [system] numbers, truth values or texts"
        )
    found = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values.tolist()]
    if values.dtype.kind == "O" and not all(isinstance(value, str) for value in found):
        raise DynamoError(f"{what} holds objects: give numbers, truth values or texts")
    return found


def _read(path: Path) -> "Arrays":
    if path.suffix == ".npz":
        return read_arrays(path)
    if path.suffix in HDF5:
        return _read_hdf5(path)
    known = ", ".join((".npz", *HDF5))
    hint = {".zarr": "; save it with .load() and numpy.savez", ".nwb": "; take the arrays out with pynwb", ".npy": "; "
            "save it with numpy.savez('FILE.npz', states=...)", ".mat": "; load it with scipy.io.loadmat and save it "
            "with numpy.savez"}.get(path.suffix, "")  # fmt: skip
    raise DynamoError(f"cannot read recordings from {path}: it must be a file {known}{hint}")


def _read_hdf5(path: Path) -> "Arrays":
    """All arrays of an HDF5 file by their paths. Links to other files and data that lies elsewhere are refused."""
    content = read_bytes(path)  # a regular file, of a size that makes sense
    if content[:3] == b"CDF":
        raise DynamoError(f"{path} is a netCDF-3 file: write it as netCDF-4 (xarray: to_netcdf(..., format='NETCDF4'))")
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise DynamoError(
            f"{path.suffix} files are read by h5py, which cannot be imported ({error}): pip install "
            "'dynamo-embedding[hdf5]', or save the arrays with numpy.savez"
        ) from None
    found: Arrays = {}
    try:
        with h5py.File(path, "r") as file:
            _collect(h5py, file, "", found, room=LARGEST_FILE)
    except DynamoError as error:
        raise error.at(str(path)) from None
    except Exception as error:
        raise DynamoError(f"{path} is no readable HDF5 file ({one_line(error)}): write it again") from None
    return found


def _collect(h5py: Any, group: Any, prefix: str, found: "Arrays", room: int) -> None:
    for name in group:
        link, where = group.get(name, getlink=True), f"{prefix}{name}"
        if not isinstance(link, h5py.HardLink):
            raise DynamoError(f"{where!r} is a link: put the array itself there")
        item = group[name]
        if isinstance(item, h5py.Group):
            if prefix:
                raise DynamoError(f"the group {where!r} lies too deep: arrays are named 'what' or 'what/system'")
            _collect(h5py, item, f"{name}/", found, room)
            continue
        if not isinstance(item, h5py.Dataset):
            raise DynamoError(f"{where!r} is no array")
        if (
            dict(item.attrs).get("CLASS") in (b"DIMENSION_SCALE", "DIMENSION_SCALE")
            and where.split("/")[0] not in PARTS
        ):
            continue  # how netCDF keeps the names of dimensions
        if item.is_virtual or item.external:
            raise DynamoError(f"{where!r} lies in another file: put the array itself there")
        if item.size is None or item.nbytes + sum(array.nbytes for array in found.values()) > room:
            raise DynamoError(f"{where!r} has no values, or more than {room:,} bytes")
        text = h5py.check_string_dtype(item.dtype) is not None
        found[where] = np.asarray(item.asstr()[()] if text else item[()])

"""``dynamo import``: populations from files of recordings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import dynamo
from dynamo import DynamoError, Population
from dynamo.population.doors.recordings import read_recordings
from test_from_recordings import walk


@pytest.fixture
def states():
    return walk(3, 6, 8, 2)


def written(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_an_npz_is_what_its_arrays_are(states, tmp_path):
    mask = np.ones((3, 6, 8), dtype=bool)
    mask[1, 2, 4] = False
    table = {"metadata/mu": [0.5, 1.0, 1.5], "metadata/kind": ["a", "b", "b"], "metadata/old": [True, False, True]}
    inputs, outputs = walk(6, 8, 1), walk(3, 6, 8, 2, seed=4)
    path = written(tmp_path / "a.npz", states=states, inputs=inputs, outputs=outputs, mask=mask, names=["x", "y", "z"],
                   **table)  # fmt: skip
    found = read_recordings(path)
    columns = {"mu": [0.5, 1.0, 1.5], "kind": ["a", "b", "b"], "old": [True, False, True]}
    wanted = Population.from_recordings(states, inputs, outputs, mask, columns, ["x", "y", "z"])
    assert found.fingerprint == wanted.fingerprint
    assert found.data_fingerprints == wanted.data_fingerprints
    assert [base.metadata for base in found] == [base.metadata for base in wanted]
    assert [base.name for base in found] == ["x", "y", "z"]


def test_an_npz_may_hold_an_array_for_each_system(tmp_path):
    systems = {"small": walk(5, 7, 2), "large": walk(4, 9, 6)}
    path = written(tmp_path / "a.npz", **{f"states/{name}": own for name, own in systems.items()})
    assert read_recordings(path, clip=4).fingerprint == Population.from_recordings(systems, clip=4).fingerprint


def test_import_fit_show_and_embed_from_the_command_line(states, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(Path("known.npz"), states=states, **{"metadata/mu": [1, 2, 3]})
    written(Path("new.npz"), states=states[:1] + 0.1, names=["new"])
    assert dynamo("import", "known.npz", "--recordings", "--out", "known", "--units", "shared") == 0
    assert "3 recorded systems in known: 15 trials to fit, 3 held out" in capsys.readouterr().out
    made = Population.load("known")
    assert made.fingerprint == Population.from_recordings(states, units="shared").fingerprint
    small = ["--meta-model", "gru:hidden_size=6", "--theta-dim", "3", "--steps", "3", "--batch-size", "12"]
    assert dynamo("fit", "known", "--preset", "laptop", "--out", "run", *small) == 0
    assert dynamo("show", "run") == 0
    assert dynamo("analyse", "distances", "run") == 0
    assert dynamo("analyse", "fixed-points", "run", "--at", "system-1", "--starts", "8") == 0
    assert dynamo("analyse", "attractors", "run", "--by", "mu", "--starts", "10", "--rounds", "1") == 0
    assert dynamo("import", "new.npz", "--recordings", "-o", "new", "--units", "shared", "--like", "known") == 0
    assert dynamo("embed", "run", "new", "--steps", "2", "--map-steps", "2") == 0
    capsys.readouterr()
    assert dynamo("analyse", "fixed-points", "run", "--at", "system-1", "--base") != 0
    assert "model 'system-1' is a recording: it cannot be run on new inputs" in capsys.readouterr().err
    assert dynamo("analyse", "attractors", "run", "--by", "mu", "--seen") != 0
    assert "is a recording: it cannot be run" in capsys.readouterr().err
    assert dynamo("import", "new.npz", "--recordings", "-o", "known") != 0
    assert "holds a population already" in capsys.readouterr().err


def test_nothing_is_left_of_an_import_that_failed(states, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    states[0, 1, 2, 0] = np.nan
    written(Path("a.npz"), states=states)
    assert dynamo("import", "a.npz", "--recordings", "--out", "made") != 0
    assert "a.npz: system 'system-0', trial 1: the states are NaN at 1 of 8 steps" in capsys.readouterr().err
    assert not Path("made").exists()
    assert dynamo("import", "a.npz", "--recordings", "--out", "made", "--missing", "mask") == 0
    assert dynamo("import", "a.npz", "--out", "other") != 0
    assert "say what a.npz is: --recordings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"state": 0}, "has no states: it needs the array 'states'"),
        ({"states": 0, "msk": 0}, "has the array 'msk', which nothing would read: did you mean 'mask'"),
        ({"states": 0, "states/a": 0}, "has the array 'states' and also 'states/a'"),
        ({"states": 0, "metadata/mu": np.zeros((3, 2))}, r"metadata/mu is float64 \[3, 2\]; give \[system\]"),
        ({"states": 0, "metadata/mu": np.zeros(2)}, "'mu' has 2 values, and there are 3 systems"),
        ({"states": 0, "names": np.array(["a", "b"])}, "states of 3 systems, and 2 names"),
        ({"states": np.zeros((2, 3))}, r"states have the shape \(2, 3\)"),
    ],
)
def test_files_that_hold_something_else_are_told(states, tmp_path, arrays, message):
    given = {name: states if isinstance(array, int) else array for name, array in arrays.items()}
    with pytest.raises(DynamoError, match=message) as told:
        read_recordings(written(tmp_path / "a.npz", **given))
    assert "a.npz" in str(told.value)


def test_files_that_are_none_are_told(tmp_path):
    for name, content, message in (
        ("a.npz", b"nothing", "not an .npz file of plain arrays"),
        ("a.npy", b"", r"must be a file \.npz, \.h5, \.hdf5, \.nc; save it with numpy.savez"),
        ("a.zarr", b"", "save it with .load"),
        ("a.nc", b"CDF\x01rest", "is a netCDF-3 file: write it as netCDF-4"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DynamoError, match=message):
            read_recordings(tmp_path / name)
    with pytest.raises(DynamoError, match=r"cannot read .*missing.npz: No such file"):
        read_recordings(tmp_path / "missing.npz")
    objects = np.empty(2, dtype=object)
    np.savez(tmp_path / "o.npz", states=objects)
    with pytest.raises(DynamoError, match=r"not an .npz file of plain arrays"):
        read_recordings(tmp_path / "o.npz")


# HDF5. ----------------------------------------------------------------------------------------------------------------


def test_without_h5py_its_files_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF")
    with pytest.raises(DynamoError, match=r"read by h5py, which cannot be imported.*pip install"):
        read_recordings(tmp_path / "a.h5")


def test_hdf5_is_read_like_npz(states, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, own in enumerate(states):
            file[f"states/system-{number}"] = own
        file["metadata/mu"] = [1, 2, 3]
        file.create_dataset("metadata/kind", data=["a", "b", "b"], dtype=h5py.string_dtype())
    found = read_recordings(tmp_path / "a.h5")
    assert found.fingerprint == Population.from_recordings(states).fingerprint
    assert [base.metadata for base in found] == [
        {"kind": kind, "mu": mu} for kind, mu in (("a", 1), ("b", 2), ("b", 3))
    ]


def test_hdf5_that_leads_elsewhere_is_refused(states, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["states"] = states
    makes = {
        "is a link": lambda file: file.__setitem__("states", h5py.ExternalLink("other.h5", "states")),
        "is a link: put": lambda file: file.__setitem__("states", h5py.SoftLink("/other")),
        "lies too deep": lambda file: file.__setitem__("states/a/b", states[0]),
        "lies in another file": lambda file: file.create_virtual_dataset("states", layout(h5py, tmp_path, states)),
        "or more than": lambda file: file.create_dataset(
            "states", shape=(2**20, 2**10, 2**10, 4), dtype="f4", chunks=True
        ),
    }
    for message, make in makes.items():
        with h5py.File(tmp_path / "a.h5", "w") as file:
            make(file)
        with pytest.raises(DynamoError, match=message):
            read_recordings(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF nothing")
    with pytest.raises(DynamoError, match="no readable HDF5 file"):
        read_recordings(tmp_path / "a.h5")


def layout(h5py, folder, states):
    made = h5py.VirtualLayout(shape=states.shape, dtype=states.dtype)
    made[:] = h5py.VirtualSource(folder / "other.h5", "states", shape=states.shape)
    return made


def test_netcdf_4_is_hdf5(states, tmp_path):
    pytest.importorskip("h5py")
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    data = xarray.Dataset({"states": (("system", "trial", "time", "unit"), states)})
    data.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert read_recordings(tmp_path / "a.nc").fingerprint == Population.from_recordings(states).fingerprint
    assert torch.isfinite(read_recordings(tmp_path / "a.nc")[0].trajectories.probe.states[0]).all()

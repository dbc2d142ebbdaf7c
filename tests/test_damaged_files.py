"""Files that are damaged, of another version, or nonsense with right checksums: refused, or read for what they say."""

import gzip
import io
import random
import shutil
import struct
import sys
import tomllib
import zipfile
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from dynamo import DynamoError, Fit, Population
from dynamo.contracts.data import Dataset
from dynamo.contracts.files import read_arrays, sha256
from dynamo.contracts.options import Spec
from dynamo.fit.fidelity import read_fidelity
from dynamo.registry import make
from dynamo.system.storage import read_tensors, write_toml
from dynamo.training.checkpoint import read_checkpoint

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import faults


def mutated(content, generator):
    """Cut, flipped, overwritten, shortened or lengthened at random."""
    content, place = bytearray(content), generator.randrange(len(content))
    kind = generator.choice(["cut", "flip", "flip", "flip", "flips", "zeros", "noise", "delete", "insert"])
    length = generator.randrange(1, 40)
    if kind == "cut":
        del content[place:]
    elif kind == "zeros":
        content[place : place + length] = bytes(len(content[place : place + length]))
    elif kind == "noise":
        content[place : place + length] = generator.randbytes(len(content[place : place + length]))
    elif kind == "delete":
        del content[place : place + length]
    elif kind == "insert":
        content[place:place] = generator.randbytes(length)
    else:
        for _ in range(1 if kind == "flip" else 3):
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    return bytes(content)


def tensors(state):
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def seen_population(root):
    loaded = Population.load(root / "population")
    return [
        (*attrs.astuple(attrs.evolve(base, model=tensors(base.model.state_dict())), recurse=False), base.model.inputs)
        for base in loaded
    ]


def seen_run(root):
    fit = Fit.load(root / "disk")
    return (
        tensors(fit.emulator.state_dict()),
        fit.options,
        fit.metadata,
        fit.source,
        fit.history,
        fit.emulator.blueprint,
    )


def seen_checkpoint(root):
    return repr(read_checkpoint(root / "checkpoint.pt"))


def seen_dataset(name, **options):
    return lambda root: make("dataset", Spec(name, {key: str(root / path) for key, path in options.items()}), Dataset)


def fingerprint_of(name, **options):
    return lambda root: seen_dataset(name, **options)(root).fingerprint()


KINDS = {
    "population/population.toml": seen_population,
    "population/weights/digits-gru-100-s0-e001.safetensors": seen_population,
    "population/weights/a.pt": seen_population,
    "disk/run.toml": seen_run,
    "disk/fit.safetensors": seen_run,
    "disk/history.csv": seen_run,
    "disk/fidelity.csv": lambda root: read_fidelity(root / "disk"),
    "checkpoint.pt": seen_checkpoint,
    "sequences.npz": fingerprint_of("arrays", path="sequences.npz"),
    "images.npz": fingerprint_of("image-arrays", path="images.npz"),
    "snippets.tsv.gz": fingerprint_of("snippets", path="snippets.tsv.gz"),
}


@pytest.fixture(scope="module")
def artefacts(whole):
    """One file of every kind that is read back, in the folder of the population and the run."""
    path = whole / "population" / "population.toml"
    table = tomllib.loads(path.read_text())
    last = table["models"][-1]
    torch.save(Population.load(whole / "population")[-1].model.state_dict(), whole / "population" / "weights" / "a.pt")
    del last["sha256"]
    last["weights"] = "weights/a.pt"
    write_toml(path, {key: value for key, value in table.items() if key != "digest"})
    command = faults.fitting(whole / "population", "disk")
    faults.before(("rename", "fit.safetensors", 1), whole / "half")(command.arguments(whole / "half"), whole / "log")
    (whole / "half" / "checkpoint.pt").rename(whole / "checkpoint.pt")
    generator = np.random.default_rng(0)
    arrays = {"x": generator.normal(size=(9, 4, 3)).astype("f4"), "y": generator.integers(2, size=9)}
    np.savez(whole / "sequences.npz", **{f"{key}_{part}": arrays[key] for key in arrays for part in ("train", "test")})
    arrays["x"] = generator.integers(256, size=(9, 5, 5, 3)).astype("u1")
    np.savez(whole / "images.npz", **{f"{key}_{part}": arrays[key] for key in arrays for part in ("train", "test")})
    rows = "".join(f"movie\t{1 - 2 * (n % 2)}\tword{n % 7} and word{n % 5}\n" for n in range(60))
    (whole / "snippets.tsv.gz").write_bytes(gzip.compress(f"source\trating\ttext\n{rows}".encode(), mtime=0))
    return whole


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_refused_or_says_the_same(artefacts, name):
    """30 random mutations of each kind of file: 330 in all."""
    path, look, generator = artefacts / name, KINDS[name], random.Random(name)
    content, wanted = path.read_bytes(), look(artefacts)
    refused = 0
    try:
        for _ in range(30):
            path.write_bytes(mutated(content, generator))
            try:
                found = look(artefacts)
            except DynamoError:
                refused += 1
            else:
                assert found == wanted
    finally:
        path.write_bytes(content)
    assert refused > 15
    assert look(artefacts) == wanted


def test_an_array_whose_header_was_changed_is_refused(tmp_path):
    """numpy alone reads the half of an array whose header says half, and compares no checksum then."""
    np.savez(tmp_path / "a.npz", x=np.arange(64_000, dtype="<f4"))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(b"<f4", b"<f2"))
    assert np.load(tmp_path / "a.npz")["x"].dtype == np.float16
    with pytest.raises(DynamoError, match=r"checksum of its part 'x\.npy' differs"):
        read_arrays(tmp_path / "a.npz", ["x"])


def test_a_changed_weight_in_a_file_of_torch_is_refused(tmp_path):
    """torch.load alone accepts it."""
    torch.save({"w": torch.zeros(1000)}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    place = content.index(bytes(2000)) + 1000
    (tmp_path / "a.pt").write_bytes(content[:place] + b"\x40" + content[place + 1 :])
    assert torch.load(tmp_path / "a.pt", weights_only=True)["w"].count_nonzero() == 1
    with pytest.raises(DynamoError, match="the checksum of its part 'a/data/0' differs"):
        read_tensors(tmp_path / "a.pt")


def test_a_compressed_file_of_torch_is_refused(tmp_path):
    """A megabyte of it could be a gigabyte of zeros."""
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(10**5)}, buffer)
    with zipfile.ZipFile(buffer) as file, zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as squeezed:
        for name in file.namelist():
            squeezed.writestr(name, file.read(name))
    with pytest.raises(DynamoError, match="compressed"):
        read_tensors(tmp_path / "w.pt")


def test_an_edited_manifest_is_refused_until_its_digest_is_taken_out(whole, tmp_path):
    folder = tmp_path / "population"
    shutil.copytree(whole / "population", folder)
    path = folder / "population.toml"
    path.write_text(path.read_text().replace('architecture = "gru"', 'architecture = "gated"'))
    with pytest.raises(DynamoError, match=r"digest differs.*if it was changed on purpose, remove its line"):
        Population.load(folder)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("digest")]
    path.write_text("\n".join(lines))
    assert Population.load(folder)[0].metadata["architecture"] == "gated"


# Versions


def as_format(path, version):
    """The file with another format, or none where it is None, and checksums that are right."""
    if path.suffix == ".toml":
        table = tomllib.loads(path.read_text())
        write_toml(path, {**{key: value for key, value in table.items() if key != "digest"}, "format": version})
        return
    content = torch.load(io.BytesIO(path.read_bytes()[64:]), weights_only=True)
    buffer = io.BytesIO()
    torch.save({**content, "format": version}, buffer)
    path.write_bytes(sha256(buffer.getvalue()).encode() + buffer.getvalue())


@pytest.mark.parametrize("version", [3, 10**6, 0, -1, None, "1", True, 1.0])
@pytest.mark.parametrize("name", ["population/population.toml", "disk/run.toml", "checkpoint.pt"])
def test_a_format_of_the_past_or_the_future_is_refused_with_what_to_do(artefacts, name, version):
    path, look = artefacts / name, KINDS[name]
    content = path.read_bytes()
    try:
        as_format(path, version)
        with pytest.raises(DynamoError) as refused:
            look(artefacts)
    finally:
        path.write_bytes(content)
    assert f"of format {version!r}; this version reads format 1 or 2: " in str(refused.value)
    assert "the version of dynamo-embedding that wrote it" in str(refused.value)
    look(artefacts)


@pytest.mark.parametrize("name", ["disk/history.csv", "disk/fidelity.csv"])
def test_a_table_with_other_columns_is_refused(artefacts, name):
    """Tables have no format number; their columns say what they are."""
    path, run = artefacts / name, artefacts / "disk" / "run.toml"
    contents = path.read_bytes(), run.read_bytes()
    try:
        path.write_text(path.read_text().replace("hidden", "concealed", 1))
        table = tomllib.loads(run.read_text())
        write_toml(run, {key: value for key, value in table.items() if key not in ("digest", "files")})
        with pytest.raises(DynamoError, match=r"it must have the columns|is damaged \(KeyError"):
            KINDS[name](artefacts)
    finally:
        path.write_bytes(contents[0])
        run.write_bytes(contents[1])


# What benchmarks/fuzz.py has found


@pytest.mark.parametrize("name", ["x_train", "y_train", "mask_train"])
@pytest.mark.parametrize(("component", "file"), [("arrays", "sequences.npz"), ("image-arrays", "images.npz")])
def test_a_part_that_is_no_array_is_refused(artefacts, tmp_path, component, file, name):
    """numpy gives it as bytes."""
    with zipfile.ZipFile(artefacts / file) as sound, zipfile.ZipFile(tmp_path / "a.npz", "w") as spoilt:
        for part in sound.namelist():
            spoilt.writestr(part, b"nonsense" if part == f"{name}.npy" else sound.read(part))
        if f"{name}.npy" not in sound.namelist():
            spoilt.writestr(f"{name}.npy", b"nonsense")
    unread = (component, name) == ("image-arrays", "mask_train")  # images have no masks
    message = "the array 'mask_train', which nothing would read" if unread else f"its part '{name}' is no array"
    with pytest.raises(DynamoError, match=message):
        fingerprint_of(component, path="a.npz")(tmp_path)


def test_a_refused_state_dict_is_no_advice_to_run_its_code(tmp_path):
    """torch's own message says how to, in bold letters of the terminal."""
    torch.save({"w": Path("x")}, tmp_path / "a.pt")
    with pytest.raises(DynamoError, match=r"asks for more than tensors and plain values$"):
        read_tensors(tmp_path / "a.pt")


def test_what_torch_quotes_of_a_file_does_not_reach_the_terminal(tmp_path):
    buffer, spoilt = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.zeros(2)}, buffer)
    with zipfile.ZipFile(buffer) as sound, zipfile.ZipFile(spoilt, "w") as file:
        for part in sound.namelist():
            file.writestr(part, b"\x1b[2J" if part.endswith("byteorder") else sound.read(part))
    (tmp_path / "a.pt").write_bytes(spoilt.getvalue())
    (tmp_path / "c.pt").write_bytes(sha256(spoilt.getvalue()).encode() + spoilt.getvalue())
    for read, name in ((read_tensors, "a.pt"), (read_checkpoint, "c.pt")):
        with pytest.raises(DynamoError, match="Unknown endianness") as refused:
            read(tmp_path / name)
        assert "\x1b" not in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1


def test_a_class_behind_a_separator_is_read(tmp_path):
    """Python's strip takes away \\x1e, its int does not."""
    from dynamo_datasets.ag_news import read

    (tmp_path / "train.csv").write_text('"4\x1e","a title","a text"\n')
    assert read(tmp_path, "train").labels == [3]


def test_absurd_sizes_of_no_images_are_refused(tmp_path):
    from dynamo_images.fashion import read_idx

    sizes = [2**32 - 1, 2**32 - 1, 2**32 - 1, 0]
    (tmp_path / "a").write_bytes(struct.pack(">4B4I", 0, 0, 8, 4, *sizes))
    assert read_idx(tmp_path / "a").shape == (0, 0, 0, 0)  # which no data set takes


@pytest.mark.parametrize("step", ["1.5", "2", "0", "1e3"])
def test_a_history_of_other_steps_is_refused(artefacts, step):
    """Its own checksum finds damage; this is one that was signed anew."""
    path, run = artefacts / "disk" / "history.csv", artefacts / "disk" / "run.toml"
    contents = path.read_bytes(), run.read_bytes()
    try:
        lines = path.read_text().splitlines()
        lines[1] = ",".join([step, *lines[1].split(",")[1:]])
        path.write_text("\n".join(lines))
        table = tomllib.loads(run.read_text())
        table["files"]["history.csv"] = sha256(path.read_bytes())
        write_toml(run, {key: value for key, value in table.items() if key != "digest"})
        with pytest.raises(DynamoError, match="the steps 1, 2, … and finite numbers"):
            Fit.load(artefacts / "disk")
    finally:
        path.write_bytes(contents[0])
        run.write_bytes(contents[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 7.0])
@pytest.mark.parametrize("column", [0, 2])
def test_a_checkpoint_with_a_history_of_nonsense_is_refused(artefacts, tmp_path, value, column):
    content = torch.load(io.BytesIO((artefacts / "checkpoint.pt").read_bytes()[64:]), weights_only=True)
    content["history"][0, column] = value
    buffer = io.BytesIO()
    torch.save(content, buffer)
    (tmp_path / "c.pt").write_bytes(sha256(buffer.getvalue()).encode() + buffer.getvalue())
    if (column, value) == (2, 7.0):  # a loss may be anything finite
        assert read_checkpoint(tmp_path / "c.pt")["history"][0, 2] == 7
        return
    with pytest.raises(DynamoError, match=r"is no checkpoint \(its history is not of the steps"):
        read_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("number", [2**24, 10**9, 10**12, 2**62])
@pytest.mark.parametrize("name", ["x", "y"])
def test_absurd_ids_and_classes_are_refused_before_a_network_is_made_for_them(tmp_path, capsys, name, number):
    arrays = {"x": np.arange(40).reshape(10, 4), "y": np.arange(10) % 2}
    arrays[name].flat[0] = number
    np.savez(tmp_path / "a.npz", **{f"{key}_{part}": arrays[key] for key in arrays for part in ("train", "test")})
    data = f"arrays:path={tmp_path / 'a.npz'}"
    assert faults.run(["train", str(tmp_path / "p"), "-a", "gru:hidden_size=3", "-d", data]) == 2
    what = "an input" if name == "x" else "an output"
    assert f"has {what} of size {number + 1:,};" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_a_picture_of_absurd_size_is_refused(tmp_path):
    """Pillow raises an error of its own kind."""
    from PIL import Image

    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / part / "a" / "0.bmp")
    path = tmp_path / "train" / "a" / "0.bmp"
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<2i", 30_000, 30_000)
    path.write_bytes(content)
    with pytest.raises(DynamoError, match="DecompressionBombError"):
        make("dataset", Spec("image-folder", {"root": str(tmp_path)}), Dataset)

"""Kills, full disks, interrupts and damaged files: nothing that was saved is lost, and nothing spoilt is accepted."""

import errno
import gzip
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from dynamo import DynamoError, Fit, Population
from dynamo.checkpoint import read_checkpoint
from dynamo.data import Dataset
from dynamo.locks import locked
from dynamo.options import Spec
from dynamo.plugins import make
from dynamo.report import read_fidelity
from dynamo.storage import read_arrays, read_tensors, write_bytes, write_toml

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import faults

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, killed and locked as on Unix")


def status(arguments, log, prepare=lambda: None):
    """Run a command in a process of its own; its exit status, or minus the signal that ended it."""
    return faults.wait(faults.start(arguments, log, prepare))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A population and a run with its recordings on disk, neither interrupted."""
    root = tmp_path_factory.mktemp("faults")
    assert faults.run(faults.training().arguments(root / "population")) == 0
    assert faults.run(faults.fitting(root / "population", "disk").arguments(root / "disk")) == 0
    return root


def fit_command(whole):
    return faults.fitting(whole / "population", "disk")


def test_killed_commands_lose_nothing_and_end_as_if_they_had_not_been_killed(whole, tmp_path):
    """Five kills of the campaign in benchmarks/faults.py: before a rename, between weights and manifest, in the middle
    of a recording, and after checkpoints.
    """
    for command, reference, moments in (
        (faults.training(), whole / "population", [24, 47]),
        (fit_command(whole), whole / "disk", [30, 80, 125]),
    ):
        counts = faults.at_operations(command, tmp_path, reference, moments)
        assert counts.faults == []
        assert counts.kills == len(moments)
        assert counts.resumed > 0  # the later kills found something saved


def test_what_a_killed_process_leaves_is_swept(whole, tmp_path):
    command, folder = fit_command(whole), tmp_path / "run"
    kill = faults.before(32, folder)
    assert kill(command.arguments(folder), tmp_path / "log") == -signal.SIGKILL
    (folder / ".left.partial").write_bytes(b"half")
    (folder / "recording" / "old").mkdir(parents=True)
    assert faults.run(command.arguments(folder)) == 0
    assert faults.listing(folder) == faults.listing(whole / "disk")
    assert not (folder / "recording").exists()


# Locks


def test_a_folder_has_one_writer_and_the_second_is_told_who(whole, tmp_path, capsys):
    for folder, arguments in (
        (tmp_path / "run", fit_command(whole).arguments(tmp_path / "run")),
        (tmp_path / "population", faults.training().arguments(tmp_path / "population")),
        (whole / "disk" / "clusters", ["analyse", "clusters", str(whole / "disk")]),
        (whole / "disk", ["show", str(whole / "disk"), "--colour-by", "seed"]),
    ):
        with locked(folder):
            assert faults.run(arguments) == 2
        error = capsys.readouterr().err
        assert error.endswith(
            f"error: {folder} is in use by process {os.getpid()} on {os.uname().nodename}: wait until it has ended, or "
            "choose another folder\n"
        )
        assert not (folder / ".lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        with locked(tmp_path):
            os.write(write, b"held")
            signal.pause()
    assert os.read(read, 4) == b"held"
    with pytest.raises(DynamoError, match=f"in use by process {process} on"), locked(tmp_path):
        pass
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "folder" / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(DynamoError, match="cannot write"), locked(tmp_path / "folder"):
        pass
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    import fcntl

    def flock(handle, operation):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path), locked(tmp_path):
        pass


# Disks


def test_a_file_and_then_its_new_name_are_flushed_to_the_disk(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (order.append(stat.S_ISDIR(os.fstat(handle).st_mode)), sync(handle))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), replace(self, target))[1])
    write_bytes(tmp_path / "a", b"x")
    assert order == [False, "rename", True]
    order.clear()
    write_bytes(tmp_path / "new" / "a", b"x")
    assert order == [True, False, "rename", True]


def limit(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(("recording", "operation"), [("memory", 30), ("disk", 80)])
def test_a_file_that_has_no_room_is_told_and_spoils_nothing(whole, tmp_path, recording, operation):
    """As a full disk does, a limit refuses a checkpoint or a recording."""
    command, folder, log = faults.fitting(whole / "population", recording), tmp_path / "run", tmp_path / "log"
    assert status(command.arguments(folder), log, limit(5000)) == 2
    assert "File too large; free some room or choose another folder" in log.read_text()
    assert not folder.exists()
    assert faults.before(operation, folder)(command.arguments(folder), log) == -signal.SIGKILL
    saved = command.saved(folder)
    assert saved["step"] > 0
    assert status(command.arguments(folder), log, limit(5000)) == 2
    assert command.saved(folder) == saved
    assert faults.listing(folder) == {"checkpoint.pt"}


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk of 200 KB can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no disk of 200 KB can be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_before_recordings_are_written_to_it(whole, small_disk, tmp_path):
    assert status(fit_command(whole).arguments(small_disk / "run"), tmp_path / "log") == 2
    assert "No space left on device; free some room" in (tmp_path / "log").read_text()
    assert not list(small_disk.iterdir())


def test_a_folder_that_may_only_be_read_is_told(whole):
    def nobody():
        folder.chmod(0o555)
        if os.getuid() == 0:
            os.setuid(65534)

    with tempfile.TemporaryDirectory() as name:
        log = Path(name, "log")
        Path(name).chmod(0o755)
        folder = Path(name, "folder")
        folder.mkdir()
        assert status(["train", str(folder / "population"), *faults.TRAIN], log, nobody) == 2
        assert log.read_text().splitlines()[-1].startswith(f"error: cannot write {folder}")
        assert "Traceback" not in log.read_text()
        assert not list(folder.iterdir())


def test_clocks_do_not_matter(whole, tmp_path):
    """Files from the future and from 1970 are read as any others."""
    command, folder = fit_command(whole), tmp_path / "run"
    assert faults.before(80, folder)(command.arguments(folder), tmp_path / "log") == -signal.SIGKILL
    for number, path in enumerate([*folder.rglob("*"), *(whole / "population").rglob("*")]):
        os.utime(path, (number % 2 * 2**32, number % 2 * 2**32))
    counts = faults.Counts()
    faults.finish(command, folder, whole / "disk", counts)
    assert counts.faults == []
    assert counts.resumed == 1


# Ctrl-C


def test_a_second_ctrl_c_stops_at_once_and_leaves_a_sound_folder(whole, tmp_path):
    def twice():
        from dynamo.trainer import Trainer

        advance = Trainer._advance

        def interrupted(self):
            if self.step == 7:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                os._exit(99)  # not reached: the second one interrupts
            return advance(self)

        Trainer._advance = interrupted

    command, folder = fit_command(whole), tmp_path / "run"
    assert status(command.arguments(folder), tmp_path / "log", twice) == 130
    assert faults.listing(folder) == {"checkpoint.pt"}
    assert command.saved(folder) == {"step": 6}
    counts = faults.Counts()
    faults.finish(command, folder, whole / "disk", counts)
    assert counts.faults == []


# Damaged files


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
    return tensors(fit.emulator.state_dict()), fit.options, fit.labels, fit.source, fit.history, fit.emulator.blueprint


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
    command = fit_command(whole)
    faults.before(80, whole / "half")(command.arguments(whole / "half"), whole / "log")
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


def test_a_changed_vocabulary_or_corpus_is_another_data_set_or_refused(tmp_path):
    """Texts carry no checksum: what has changed has another fingerprint, a changed vocabulary is another input."""
    generator = random.Random(0)
    (tmp_path / "vocabulary.txt").write_text("".join(f"word{n}\n" for n in range(20)))
    for part in ("train", "test"):
        rows = "".join(f'"{1 + n % 4}","word{n % 9}","word{n % 4} and word{n % 11}"\n' for n in range(30))
        (tmp_path / f"{part}.csv").write_text(rows)
    whole = seen_dataset("ag-news", root="", vocabulary="vocabulary.txt")(tmp_path)
    outcomes = set()
    for name in ("vocabulary.txt", "train.csv"):
        content = (tmp_path / name).read_bytes()
        for _ in range(30):
            (tmp_path / name).write_bytes(mutated(content, generator))
            try:
                found = seen_dataset("ag-news", root="", vocabulary="vocabulary.txt")(tmp_path)
            except DynamoError:
                outcomes.add((name, "refused"))
                continue
            if name == "vocabulary.txt" and found.tokens != whole.tokens:
                assert found.inputs != whole.inputs
                outcomes.add((name, "another input"))
            same = torch.equal(found.train.inputs.values, whole.train.inputs.values) and found.inputs == whole.inputs
            assert not (found.fingerprint() == whole.fingerprint() and not same)
        (tmp_path / name).write_bytes(content)
    assert outcomes == {("vocabulary.txt", "refused"), ("vocabulary.txt", "another input"), ("train.csv", "refused")}


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


def test_an_edited_manifest_is_refused_until_its_digest_is_taken_out(whole, tmp_path):
    folder = tmp_path / "population"
    shutil.copytree(whole / "population", folder)
    path = folder / "population.toml"
    path.write_text(path.read_text().replace('architecture = "gru"', 'architecture = "gated"'))
    with pytest.raises(DynamoError, match=r"digest differs.*if it was changed on purpose, remove its line"):
        Population.load(folder)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("digest")]
    path.write_text("\n".join(lines))
    assert Population.load(folder)[0].labels["architecture"] == "gated"


def test_a_checkpoint_of_changed_data_is_refused(tmp_path):
    from dynamo import Trainer
    from problems import base_model, dataset
    from test_trainer import SMALL

    data = dataset()
    Trainer(Population([base_model("a", data)]), SMALL).save(tmp_path / "c.pt")
    data.train.inputs.values[0, 0, 0] += 1
    with pytest.raises(DynamoError, match="other data"):
        Trainer(Population([base_model("a", data)]), SMALL).resume(tmp_path / "c.pt")

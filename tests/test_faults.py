"""Kills, full disks, clocks and interrupts: nothing that was saved is lost, and nothing spoilt is accepted."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dynamo import DynamoError
from dynamo.contracts.files import write_bytes
from dynamo.system.locks import LOCK, locked

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import faults

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, killed and locked as on Unix")


def status(arguments, log, prepare=lambda: None):
    """Run a command in a process of its own; its exit status, or minus the signal that ended it."""
    return faults.wait(faults.start(arguments, log, prepare))


def fit_command(whole):
    return faults.fitting(whole / "population", "disk")


def test_killed_commands_lose_nothing_and_end_as_if_they_had_not_been_killed(whole, tmp_path):
    """Five kills of the campaign in benchmarks/faults.py: before a rename, between weights and manifest, in the middle
    of a recording, and after checkpoints.
    """
    training = [("rename", "population.toml", 1), ("rename", "population.toml", 3)]
    fitting = [("open", "1.bin", 1), ("rename", "fit.safetensors", 1), ("rename", "fidelity.csv", 1)]
    for command, reference, moments in (
        (faults.training(), whole / "population", training),
        (fit_command(whole), whole / "disk", fitting),
    ):
        counts = faults.at_operations(command, tmp_path, reference, moments)
        assert counts.faults == []
        assert counts.kills == len(moments)
        assert counts.resumed > 0  # the later kills found something saved


def test_what_a_killed_process_leaves_is_swept(whole, tmp_path):
    command, folder = fit_command(whole), tmp_path / "run"
    kill = faults.before(("rename", "checkpoint.pt", 3), folder)
    assert kill(command.arguments(folder), tmp_path / "log") == -signal.SIGKILL
    (folder / f".dynamo-{'0a' * 8}.partial").write_bytes(b"half")
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
        assert not (folder / LOCK).exists()
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
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "folder" / LOCK).symlink_to(tmp_path / "mine")
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


@pytest.mark.parametrize(
    ("recording", "operation"), [("memory", ("rename", "checkpoint.pt", 4)), ("disk", ("rename", "fit.safetensors", 1))]
)
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
    assert (
        faults.before(("rename", "fit.safetensors", 1), folder)(command.arguments(folder), tmp_path / "log")
        == -signal.SIGKILL
    )
    for number, path in enumerate([*folder.rglob("*"), *(whole / "population").rglob("*")]):
        os.utime(path, (number % 2 * 2**32, number % 2 * 2**32))
    counts = faults.Counts()
    faults.finish(command, folder, whole / "disk", counts)
    assert counts.faults == []
    assert counts.resumed == 1


def test_recordings_that_a_killed_process_has_left_are_not_read(whole, tmp_path):
    """They are made anew, and so need no checksum."""
    command, folder = fit_command(whole), tmp_path / "run"
    assert (
        faults.before(("rename", "fit.safetensors", 1), folder)(command.arguments(folder), tmp_path / "log")
        == -signal.SIGKILL
    )
    left = list((folder / "recording").rglob("*.bin"))
    assert left
    for path in left:
        path.write_bytes(b"\x7f" * path.stat().st_size)
    counts = faults.Counts()
    faults.finish(command, folder, whole / "disk", counts)
    assert counts.faults == []
    assert counts.resumed == 1


@pytest.mark.parametrize("jump", [-(10**9), 10**9], ids=["back", "forward"])
def test_a_clock_that_is_set_in_the_middle_of_a_fit_does_not_matter(whole, tmp_path, jump):
    """The fit is killed after the clock has jumped, its folder is held meanwhile, and it goes on by the right clock."""

    def set_clock():
        import time

        from dynamo.training.trainer import Trainer

        now, now_ns, advance = time.time, time.time_ns, Trainer._advance

        def jumping(self):
            if self.step == 5:
                time.time, time.time_ns = lambda: now() + jump, lambda: now_ns() + jump * 10**9
                with pytest.raises(DynamoError, match="is in use by process"), locked(folder):
                    pass
            if self.step == 11:
                for path in folder.rglob("*"):
                    os.utime(path, (time.time(), time.time()))
                os.kill(os.getpid(), signal.SIGKILL)
            return advance(self)

        Trainer._advance = jumping

    command, folder = fit_command(whole), tmp_path / "run"
    assert status(command.arguments(folder), tmp_path / "log", set_clock) == -signal.SIGKILL
    assert command.saved(folder) == {"step": 9}
    counts = faults.Counts()
    faults.finish(command, folder, whole / "disk", counts)
    assert counts.faults == []
    assert counts.resumed == 1


# Ctrl-C


def test_a_second_ctrl_c_stops_at_once_and_leaves_a_sound_folder(whole, tmp_path):
    def twice():
        from dynamo.training.trainer import Trainer

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

"""Does a process that is killed lose or spoil anything? `dynamo train` and `dynamo fit`, killed with SIGKILL again and
again, at random moments and before each of their operations on files.

python benchmarks/faults.py --trials 12 --stride 3

After each kill all that a reader would accept is read and compared with what was there before, and the command is given
again (with --resume where there is a checkpoint). In the end every file must be that of an uninterrupted run.
"""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from dynamo import Fit, Population
from dynamo.cli import main as dynamo
from dynamo.contracts.files import sha256
from dynamo.report.fit_population import is_finished
from dynamo.system.storage import tensors_to_bytes
from dynamo.training.checkpoint import read_checkpoint

TRAIN = ["-a", "gru:hidden_size=4", "-a", "rnn:hidden_size=4", "-d", "digits-rows", "--epochs", "2", "--keep-epochs"]
FIT = ["--meta-model", "gru:hidden_size=6", "--theta-dim", "3", "--models-per-step", "none", "--batch-size", "64"]
FIT += ["--steps", "24", "--checkpoint-every", "3"]
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "fcntl.flock"}
OPERATIONS |= {"tempfile.mkstemp", "shutil.rmtree", "mmap.__new__"}
UNNAMED = {"fcntl.flock", "mmap.__new__"}

#: Runs a command line, with a log, until it is killed or has ended; gives the status.
Kill = Callable[[list[str], Path], int]


@attrs.frozen
class Command:
    """A command with a folder that it fills.

    Attributes:
        name: for the table.
        arguments: the command line for a folder; it goes on with what is there.
        saved: what a reader accepts of the folder, and how much work is in it. Raises where it is spoilt.
        files: those that must be the same in the end.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    saved: Callable[[Path], dict[str, Any]]
    files: Callable[[str], bool]


@attrs.define
class Counts:
    """What happened."""

    kills: int = 0
    finished: int = 0
    half: int = 0
    resumed: int = 0
    lost: int = 0
    spoilt: int = 0
    differing: int = 0
    faults: list[str] = attrs.field(factory=list)


def training(epochs: Sequence[str] = ()) -> Command:
    """`dynamo train`: eight checkpoints of four networks."""

    def saved(folder: Path) -> dict[str, Any]:
        if not (folder / "population.toml").exists():
            return {}
        loaded = Population.load(folder)
        return {base.name: sha256(tensors_to_bytes(base.model.state_dict())) for base in loaded}

    def arguments(folder: Path) -> list[str]:
        return ["train", str(folder), *TRAIN, *epochs, "--seeds", "2", "--skip-existing"]

    return Command("train", arguments, saved, lambda name: True)


def fitting(population: Path, recording: str) -> Command:
    """`dynamo fit` to a population."""

    def arguments(folder: Path) -> list[str]:
        begun = any((folder / name).exists() for name in ("checkpoint.pt", "run.toml"))
        resume = ["--resume"] if begun else []
        return ["fit", str(population), "-o", str(folder), *FIT, "--recording", recording, *resume]

    def saved(folder: Path) -> dict[str, Any]:
        if (folder / "run.toml").exists():
            return {"step": len(Fit.load(folder).history)}
        if (folder / "checkpoint.pt").exists():
            return {"step": read_checkpoint(folder / "checkpoint.pt")["step"]}
        return {}

    # run.toml has the wall time, the pictures' bytes are matplotlib's affair.
    return Command(
        f"fit, recording {recording}", arguments, saved, lambda name: name.endswith((".csv", ".safetensors"))
    )


def start(arguments: Sequence[str], log: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Run a command in a forked process; its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:  # whatever happens, the fork must not go on as its parent
        with log.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            with redirect_stdout(output), redirect_stderr(output):
                prepare()
                status = run(arguments)
    finally:
        os._exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run a command in this process; its exit status."""
    try:
        dynamo(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def after(seconds: float) -> Kill:
    """Kills after a time."""
    return lambda arguments, log: wait(start(arguments, log), seconds)


#: An operation on files: its number, counted from 1; or its kind, how the name of its file ends, and which of those.
Moment = int | tuple[str, str, int]


def before(moment: Moment, folder: Path) -> Kill:
    """Has the process kill itself before an operation on files of the folder."""
    place, count = str(folder), [0]
    kind, ending, number = ("", "", moment) if isinstance(moment, int) else moment

    def hook(event: str, values: tuple[object, ...]) -> None:
        if event not in OPERATIONS or not (event in UNNAMED or str(values[0]).startswith(place)):
            return
        if event == "open" and not int(str(values[2] or 0)) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if event.endswith(kind) and str(values[1] if event == "os.rename" else values[0]).endswith(ending):
            count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda arguments, log: wait(start(arguments, log, lambda: sys.addaudithook(hook)))


def wait(process: int, seconds: float | None = None) -> int:
    """The exit status; with ``seconds`` the process is killed after that time. Minus the signal where it was killed."""
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def go_on(command: Command, folder: Path, counts: Counts, kill: Kill) -> bool:
    """Start the command, kill it, and look at what it has left; whether it was killed before its end."""
    there, log = command.saved(folder), folder.with_suffix(".log")
    status = kill(command.arguments(folder), log)
    if status not in (0, -signal.SIGKILL):
        counts.faults.append(f"{command.name}: exit {status}: {log.read_text()[-500:]}")
    counts.kills += status == -signal.SIGKILL
    counts.finished += status == 0
    counts.half += any(name.endswith(".partial") or "recording" in name for name in listing(folder))
    try:
        kept = command.saved(folder)
    except Exception as error:
        counts.spoilt += 1
        counts.faults.append(f"{command.name}: {error!r}")
        return False
    if there.get("step", 0) > kept.get("step", 0) or any(
        kept.get(name) != there[name] for name in there.keys() - {"step"}
    ):
        counts.lost += 1
        counts.faults.append(f"{command.name}: {there} became {kept}")
    return status == -signal.SIGKILL and not is_finished(folder)


def finish(command: Command, folder: Path, whole: Path, counts: Counts) -> None:
    """Let the command end, and compare its folder with that of an uninterrupted run."""
    if not is_finished(folder):
        counts.resumed += bool(command.saved(folder))
        log = folder.with_suffix(".log")
        status = wait(start(command.arguments(folder), log))
        if status:
            counts.faults.append(f"{command.name}: exit {status}: {log.read_text()[-500:]}")
    found, wanted = listing(folder) - {"checkpoint.pt", ".dynamo.lock"}, listing(whole)
    unlike = found ^ wanted
    unlike |= {
        name for name in found & wanted if command.files(name) and bytes_of(folder, name) != bytes_of(whole, name)
    }
    if unlike:
        counts.differing += 1
        counts.faults.append(f"{command.name}: differs in {sorted(unlike)}")


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} if folder.exists() else set()


def bytes_of(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def uninterrupted(command: Command, folder: Path) -> float:
    """Run a command to its end; the seconds it took."""
    began, log = time.monotonic(), folder.with_suffix(".log")
    status = wait(start(command.arguments(folder), log))
    if status:
        raise RuntimeError(f"{command.name}: exit {status}: {log.read_text()}")
    return time.monotonic() - began


def at_random(command: Command, root: Path, whole: Path, seconds: float, trials: int, seed: int = 0) -> Counts:
    """Trials of up to three kills at random moments, then a run to the end."""
    generator, counts = random.Random(f"{command.name} {seed}"), Counts()
    for trial in range(trials):
        folder = root / f"{whole.name}-random-{trial}"
        for _ in range(3):
            if not go_on(command, folder, counts, after(generator.uniform(0, seconds))):
                break
        finish(command, folder, whole, counts)
    return counts


def at_operations(command: Command, root: Path, whole: Path, operations: Iterable[Moment]) -> Counts:
    """One kill before each of the operations on files, as long as there are so many; then a run to the end."""
    counts = Counts()
    for operation in operations:
        folder = root / f"{whole.name}-operation-{operation}"
        killed = counts.kills
        go_on(command, folder, counts, before(operation, folder))
        if counts.kills == killed:
            break
        finish(command, folder, whole, counts)
    return counts


def warm_up() -> None:
    """Run both commands once in this process: all that they import is then there in those that are forked."""
    with TemporaryDirectory() as name, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        population = Path(name, "population")
        run(training().arguments(population))
        run(fitting(population, "memory").arguments(Path(name, "run")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12, help="of up to three kills at random moments, a command")
    parser.add_argument("--stride", type=int, default=3, help="kill before every n-th operation on files")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warm_up()
    titles = ["command", "moments", "kills", "ended first", "half files", "went on", "lost", "spoilt", "differing"]
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    faults: list[str] = []

    def tell(command: Command, moments: str, counts: Counts) -> None:
        print(f"| {command.name} | {moments} | {' | '.join(map(str, attrs.astuple(counts)[:-1]))} |", flush=True)
        faults.extend(counts.faults)

    with TemporaryDirectory() as name:
        root = Path(name)
        population = root / "population"
        for command in (training(), fitting(population, "memory"), fitting(population, "disk")):
            whole = population if command.name == "train" else root / command.name.split()[-1]
            seconds = uninterrupted(command, whole)
            found = at_random(command, root, whole, seconds, given.trials, given.seed)
            tell(command, f"random, within {seconds:.1f} s", found)
            found = at_operations(command, root, whole, range(1, 10_000, given.stride))
            tell(command, f"before operations 1, {1 + given.stride}, … on files", found)
    print("\n".join(faults) or "no faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()

"""Does any file make a reader fail? Coverage-guided fuzzing of all that reads what others may have written.

python benchmarks/fuzz.py --groups population run checkpoint data --seconds 600
python benchmarks/fuzz.py --targets run/run.toml --replay FILE

It needs atheris, which the project does not: `pip install atheris` (Python 3.11 to 3.13). Small valid files that the
script makes itself are changed by libFuzzer: half of the time as bytes, else where bytes alone would only meet a
checksum: values of a table, the header of safetensors with its length, the parts of a zip file with their checksums.
Then they are signed anew, as anybody can.

A reader must give an object that can be used (and is the same after it was written and read again), or raise
DynamoError. A fault is any other exception, more than five seconds or 256 MB for a file, a file opened outside of the
folder or for writing, and whatever a pickle asks for. Each is shown once; its file is kept for --replay.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

try:
    import atheris
except ImportError:
    sys.exit(
        "benchmarks/fuzz.py needs atheris: pip install atheris (Python 3.11 to 3.13), in an environment of its own"
    )

import attrs
import torch
from torch import _weights_only_unpickler

with atheris.instrument_imports(include=["dynamo", "dynamo_datasets", "dynamo_images", "tomllib"]):
    from fuzz_targets import Target, make_files, seeds, targets

    from dynamo import DynamoError

    for module in ("ag_news", "arrays", "imdb", "snippets"):  # the plugins import them when they are used
        import_module(f"dynamo_datasets.{module}")
    for module in ("arrays", "cifar", "fashion", "folder", "pictures", "plain_pickle"):
        import_module(f"dynamo_images.{module}")

_weights_only_unpickler.Unpickler.load = atheris.instrument_func(_weights_only_unpickler.Unpickler.load)
SLOW, LARGE = 5.0, 256  # processor seconds, MB
PLACES = (*filter(None, sys.path), sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev/null")
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "pickle.", "ctypes.", "tempfile.")
PEACEFUL = {"os.listdir", "os.scandir", "os.walk", "os.fwalk", "pickle.Unpickler"}


class Escape(BaseException):
    """A reader has done what none may do; no `except Exception` catches it."""


# One target, in a process of its own


class Watch:
    """Sees what a reader does to files and to the system."""

    def __init__(self, folder: Path) -> None:
        self.places, self.on = (str(folder), *PLACES), False
        sys.addaudithook(self.see)

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *error: object) -> None:
        self.on = False

    def see(self, event: str, found: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(found[0], str | bytes):
            path = os.path.realpath(os.fsdecode(found[0]))
            if not path.startswith(self.places) or int(found[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise Escape(f"it opens {path}")
        elif event.startswith(FORBIDDEN) and event not in PEACEFUL:
            raise Escape(f"{event} {found!r:.200}")


@attrs.define
class Trial:
    """Gives a target one file after another, and counts."""

    target: Target
    folder: Path
    out: Path
    budget: float
    watch: Watch
    counts: dict[str, float] = attrs.field(factory=lambda: {"runs": 0, "read": 0, "refused": 0, "slowest": 0})
    faults: dict[str, str] = attrs.field(factory=dict)

    def one(self, content: bytes) -> None:
        began, memory = time.process_time(), peak()
        path = self.folder / self.target.file
        path.write_bytes(self.target.sign(content))
        self.target.after(self.folder, content)
        outcome = "read"
        try:
            with self.watch:
                found = self.target.read(self.folder)
            self.target.use(found, self.folder)
        except DynamoError as error:
            outcome = "refused"
            if not str(error).strip() or "\x1b" in str(error):
                self.blame("message", f"{error!r}", content)
        except (Exception, Escape) as error:
            outcome = "faults"
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = "".join(traceback.format_exception(error)[-8:])
            self.blame(f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}", text, content)
        seconds, grown = time.process_time() - began, peak() - memory
        if self.counts["runs"] > 20 and grown > LARGE:
            self.blame("memory", f"{grown:.0f} MB more", content)
        if self.counts["runs"] > 20 and seconds > SLOW:
            self.blame("time", f"{seconds:.1f} s", content)
        self.counts["runs"] += 1
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if self.counts["runs"] > 20:
            self.counts["slowest"] = max(self.counts["slowest"], seconds)
        if self.counts["runs"] % 50 == 0 or time.process_time() > self.budget:
            self.tell()
        if time.process_time() > self.budget:
            os.kill(os.getpid(), signal.SIGUSR1)  # libFuzzer ends, with its figures

    def blame(self, kind: str, text: str, content: bytes) -> None:
        if kind in self.faults:
            return
        self.faults[kind] = text
        place = self.out / f"{self.target.name.replace('/', '+').replace(' ', '+')}-{len(self.faults)}"
        place.write_bytes(content)
        print(f"FAULT {self.target.name}: {kind}, kept in {place}\n{text}", flush=True)
        self.tell()

    def tell(self) -> None:
        told = {**self.counts, "faults": len(self.faults), "cpu": time.process_time(), "peak": peak()}
        (self.out / "counts.json").write_text(json.dumps(told))


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def fuzz(name: str, out: Path, seconds: float, seed: int, replay: Path | None) -> None:
    """Change one kind of file until the processor time is over."""
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    torch.set_num_threads(1)
    with TemporaryDirectory() as place:
        root, corpus = Path(place, "files"), Path(place, "corpus")
        root.mkdir()
        corpus.mkdir()
        make_files(root)
        shutil.copy(root / "residual/weights/cifar-resnet.safetensors", root / "population" / "weights")
        target = next(target for target in targets(root) if target.name == name)
        trial = Trial(target, root, out, time.process_time() + seconds, Watch(root))
        made = seeds(root, target)
        for number, content in enumerate(made):
            (corpus / str(number)).write_bytes(content)
            trial.one(content)
        if trial.counts["read"] < len(made):
            sys.exit(f"{name}: the files are refused that should be read")
        if replay is not None:
            trial.one(replay.read_bytes())
            print(trial.counts)
            return

        def change(content: bytes, most: int, number: int) -> bytes:
            generator = random.Random(number)
            if generator.random() < 0.5:
                try:
                    changed = target.mutate(content, generator)
                except Exception:  # it is of that form no more
                    changed = atheris.Mutate(content, most)
                if len(changed) <= most:
                    return changed
            return atheris.Mutate(content, most)

        flags = [f"-seed={seed + 1}", "-max_len=65536", "-len_control=0", "-timeout=60", "-rss_limit_mb=4096"]
        atheris.Setup([name, *flags, f"-artifact_prefix={out}/", str(corpus)], trial.one, custom_mutator=change)
        atheris.Fuzz()


# The campaign


def campaign(given: argparse.Namespace) -> int:
    """Fuzz the targets one after the other; the number of faults."""
    with TemporaryDirectory() as place:
        (Path(place) / "files").mkdir()
        make_files(Path(place) / "files")
        known = targets(Path(place) / "files")
    chosen = [t for t in known if t.group in given.groups and (not given.targets or t.name in given.targets)]
    titles = ["file", "runs", "read", "refused", "edges at first", "edges", "kept inputs", "CPU s"]
    titles += ["slowest ms", "peak MB", "faults"]
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|", flush=True)
    total = 0
    for target in chosen:
        out = given.keep / re.sub(r"[^\w.]+", "+", target.name)
        out.mkdir(parents=True, exist_ok=True)
        share = given.seconds / sum(other.group == target.group for other in chosen)
        command = [sys.executable, __file__, "--child", target.name, "--keep", str(out), "--seconds", str(share)]
        command += ["--seed", str(given.seed)] + (["--replay", str(given.replay)] if given.replay else [])
        with (out / "log").open("w") as log:
            status = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
        print(status.stdout, end="")
        if given.replay:
            continue
        counts = json.loads((out / "counts.json").read_text())
        seen = re.findall(r"cov: (\d+) .*?corp: (\d+)", (out / "log").read_text())
        if status.returncode:  # libFuzzer has ended it: too slow, too large, or a crash of the interpreter
            counts["faults"] += 1
            print(f"FAULT {target.name}: exit {status.returncode}, see {out / 'log'}")
        total += counts["faults"]
        figures = [counts["runs"], counts["read"], counts["refused"], seen[0][0], seen[-1][0], seen[-1][1]]
        figures += [round(counts["cpu"]), round(1000 * counts["slowest"]), round(counts["peak"]), counts["faults"]]
        told = " | ".join(f"{int(figure):,}" for figure in figures)
        print(f"| {target.name} | {told} |", flush=True)
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    groups = ["population", "run", "checkpoint", "data"]
    parser.add_argument("--groups", nargs="+", choices=groups, default=groups)
    parser.add_argument("--targets", nargs="+", default=[], help="some files of the groups only, by name")
    parser.add_argument("--seconds", type=float, default=600, help="of processor time for each group")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="where logs and faulty files go")
    parser.add_argument("--replay", type=Path, help="give this file to the targets, and nothing else")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        fuzz(given.child, given.keep, given.seconds, given.seed, given.replay)
    else:
        sys.exit(bool(campaign(given)))


if __name__ == "__main__":
    main()

"""Does any file make a reader fail? Coverage-guided fuzzing of all that reads what others may have written.

python benchmarks/fuzz.py --groups population run checkpoint data --seconds 600
python benchmarks/fuzz.py --targets run.toml --replay FILE

It needs atheris, which the project does not: `pip install atheris` (Python 3.11 to 3.13). Small valid files that the
script makes itself are changed by libFuzzer: half of the time as bytes, else where bytes alone would only meet a
checksum: values of a table, the header of safetensors with its length, the parts of a zip file with their checksums.
Then they are signed anew, as anybody can.

A reader must give an object that can be used (and is the same after it was written and read again), or raise
DynamoError. A fault is any other exception, more than five seconds or 256 MB for a file, a file opened outside of the
folder or for writing, and whatever a pickle asks for. Each is shown once; its file is kept for --replay.
"""

import argparse
import gzip
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_STORED, ZipFile

try:
    import atheris
except ImportError:
    sys.exit(
        "benchmarks/fuzz.py needs atheris: pip install atheris (Python 3.11 to 3.13), in an environment of its own"
    )

import attrs
import numpy as np
import torch
from torch import _weights_only_unpickler

with atheris.instrument_imports(include=["dynamo", "dynamo_datasets", "dynamo_images", "tomllib"]):
    import tomllib

    import tomli_w

    # What the plugins import when it is used is instrumented only here.
    import dynamo_images.arrays
    import dynamo_images.cifar
    import dynamo_images.fashion
    import dynamo_images.folder  # noqa: F401
    from dynamo import Dataset, DynamoError, Fit, FitOptions, Population, Spec, Trainer
    from dynamo.checkpoint import read_checkpoint
    from dynamo.emulator import blueprint_table
    from dynamo.fidelity import measure_fidelity
    from dynamo.plugins import full_spec, make, registry
    from dynamo.population import BaseModel
    from dynamo.protocols import DynamicalModel
    from dynamo.report import read_fidelity, write_fidelity
    from dynamo.storage import sha256, table_digest, write_toml

_weights_only_unpickler.Unpickler.load = atheris.instrument_func(_weights_only_unpickler.Unpickler.load)
SLOW, LARGE = 5.0, 256  # processor seconds, MB
PLACES = (*filter(None, sys.path), sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev/null")
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "pickle.", "ctypes.", "tempfile.")
PEACEFUL = {"os.listdir", "os.scandir", "os.walk", "os.fwalk", "pickle.Unpickler"}


class Escape(BaseException):
    """A reader has done what none may do; no `except Exception` catches it."""


@attrs.frozen
class Target:
    """One kind of file.

    Attributes:
        name: the file's place in the folder, or the place and a word.
        group: what it belongs to.
        read: reads the folder, and uses what it finds.
        mutate: changes the file's content where it means something.
        sign: the bytes of the file from those that were changed, with checksums that are right.
        after: mends what else the folder must have, given the folder and the bytes.
    """

    name: str
    group: str
    read: Callable[[Path], object]
    mutate: Callable[[bytes, random.Random], bytes]
    sign: Callable[[bytes], bytes] = bytes
    after: Callable[[Path, bytes], object] = lambda folder, content: None

    @property
    def file(self) -> str:
        return self.name.partition(" ")[0]


# The files


def make_files(root: Path) -> None:
    """One small valid file of every kind."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(8, 3, 2)).astype("f4"), np.arange(8) % 2
    np.savez(root / "arrays.npz", x_train=x, y_train=y, x_test=x, y_test=y, mask_train=np.ones((8, 3), bool))
    tokens, real = np.arange(24).reshape(8, 3) % 7, generator.normal(size=(8, 3, 1))
    np.savez(root / "tokens.npz", x_train=tokens, y_train=real, x_test=tokens, y_test=real)
    images = generator.integers(256, size=(4, 8, 8, 3)).astype("u1")
    np.savez(root / "images.npz", x_train=images, y_train=y[:4], x_test=images, y_test=y[:4])
    rows = "".join(f"movie\t{1 - 2 * (n % 2)}\tword{n % 7} and word{n % 5}\n" for n in range(12))
    (root / "snippets.tsv.gz").write_bytes(gzip.compress(f"source\trating\ttext\n{rows}".encode(), mtime=0))
    (root / "vocabulary.txt").write_text("<pad>\n<unk>\ngood\nbad\nfilm\n")
    for part in ("train", "test"):
        rows = "".join(f'"{1 + n % 4}","good film {n}","bad quot;film quot; &amp; <br/>"\n' for n in range(8))
        (root / f"{part}.csv").write_text(rows)
        for name in ("neg", "pos"):
            (root / "aclImdb" / part / name).mkdir(parents=True)
            (root / "aclImdb" / part / name / "0_1.txt").write_text("A good, bad film &amp; it's <br /> no more!")
            (root / "folder" / part / name).mkdir(parents=True)
            write_picture(root / "folder" / part / name / "0.png", images[0])
    for part in ("train", "t10k"):
        header = struct.pack(">4B3I", 0, 0, 8, 3, 2, 8, 8)
        (root / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(range(128)))
        (root / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">4BI2B", 0, 0, 8, 1, 2, 0, 1)))
    write_pickles(root)
    population = make_population(root)
    make_run(root, population)
    for name in ("population", "run"):
        path = root / name / f"{name}.toml"
        table = unsigned(tomllib.loads(path.read_text()))
        for entry in table.get("models", [table]):
            entry.pop("sha256" if name == "population" else "files")
        write_toml(path, table)


def write_picture(path: Path, pixels: "np.ndarray[Any, Any]") -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def write_pickles(root: Path) -> None:
    """CIFAR-100 with two images."""
    import pickle

    for part in ("train", "test"):
        content = {"data": np.zeros((2, 3072), "u1"), "fine_labels": [0, 99]}
        (root / part).write_bytes(pickle.dumps(content, protocol=4))


def make_population(root: Path) -> Population:
    """Recurrent networks, one in torch's own format, and a residual network beside them."""
    models, specs = [], [("gru", "arrays", 2), ("rnn", "arrays", 2), ("cifar-resnet", "image-arrays", 2)]
    for name, data, _ in specs:
        path = root / ("arrays.npz" if data == "arrays" else "images.npz")
        spec, dataset = Spec(data, {"path": str(path)}), make("dataset", Spec(data, {"path": str(path)}), Dataset)
        own = {"depth": 8, "width": 2} if name == "cifar-resnet" else {"hidden_size": 3, "embedding_size": 2}
        torch.manual_seed(0)
        architecture = full_spec("architecture", Spec(name, own))
        model = make("architecture", architecture, DynamicalModel, dataset.inputs, dataset.outputs)
        labels = {"fraction": 0.5, "seed": 1, "good": True, "task": "x"}
        models.append(BaseModel(name, model.eval().requires_grad_(False), spec, labels, architecture))
    Population(models[2:]).save(root / "residual")
    Population(models[:2]).save(root / "population")
    torch.save(models[1].model.state_dict(), root / "population" / "weights" / "rnn.pt")
    path = root / "population" / "population.toml"
    table = unsigned(tomllib.loads(path.read_text()))
    table["models"][1] |= {"weights": "weights/rnn.pt", "sha256": sha256((path.parent / "weights/rnn.pt").read_bytes())}
    write_toml(path, table)
    return Population.load(root / "population")


def options_of_fit() -> FitOptions:
    return FitOptions(
        meta_model="gru:hidden_size=3,embedding_size=2", theta_dim=2, models_per_step=None, batch_size=4, steps=3
    )


def make_run(root: Path, population: Population) -> None:
    trainer = Trainer(population, options_of_fit())
    trainer.run()
    trainer.save(root / "checkpoint.pt")
    fit = Fit.of(trainer)
    (root / "run").mkdir()
    write_fidelity(measure_fidelity(fit, population), root / "run")
    fit.save(root / "run")


# Readers


def same(found: object, again: object) -> None:
    if repr(found) != repr(again):
        raise AssertionError(f"after writing and reading {found!r:.300} is {again!r:.300}")


def read_population(folder: Path) -> None:
    def told(population: Population) -> object:
        specs = [(base.name, base.labels, full_spec("dataset", base.data), base.architecture) for base in population]
        return population.fingerprint, specs

    found = Population.load(folder / "population")
    with watched(False):
        shutil.rmtree(folder / "again", ignore_errors=True)
        found.save(folder / "again")
    same(told(found), told(Population.load(folder / "again")))


def read_run(folder: Path) -> None:
    def told(fit: Fit) -> object:
        table = blueprint_table(fit.emulator.blueprint)
        return fit.theta, fit.names, fit.labels, fit.history, fit.options, fit.seconds, fit.source, table

    found = Fit.load(folder / "run")
    with watched(False):
        found.save(folder / "again-run")
    same(told(found), told(Fit.load(folder / "again-run")))
    found.model_at(found.names[0])


def read_table_of_fidelity(folder: Path) -> None:
    found = read_fidelity(folder / "run")
    with watched(False):
        write_fidelity(found, folder / "again-fidelity")
    same(found, read_fidelity(folder / "again-fidelity"))


def checkpoint_reader(root: Path) -> Callable[[Path], None]:
    population = Population.load(root / "population")

    def read(folder: Path) -> None:
        content = read_checkpoint(folder / "checkpoint.pt")
        trainer = Trainer(population, options_of_fit())
        trainer.resume(folder / "checkpoint.pt")
        same(trainer.step, content["step"])
        assert 0 <= trainer.step == len(trainer.history) <= trainer.steps
        with watched(False):
            trainer.save(folder / "again.pt")
        same(read_checkpoint(folder / "again.pt")["step"], content["step"])

    return read


def data(name: str, **places: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        options = {key: str(folder / value) if key != "readout" else value for key, value in places.items()}
        found = make("dataset", Spec(name, options), Dataset)
        found.check(name)
        found.fingerprint()
        if len(found.train) > 1:
            found.halves()

    return read


# Changes


def unsigned(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "digest"}


def sign_table(content: bytes) -> bytes:
    """A table with the digest that it should have; content that is none as it is."""
    try:
        table = unsigned(tomllib.loads(content.decode()))
        return f'digest = "{table_digest(table)}"\n'.encode() + content
    except (ValueError, RecursionError):
        return content


def values(generator: random.Random) -> Any:
    names = [owned.component.name for owned in registry().owned()]
    plain = ["", "a", "none", "tokens", "image", "every", "real", "../a", "/", "weights", "\x1b[2J", "\u202e", "9" * 30]
    numbers = [0, 1, 2, 3, 6, -1, 100, 2**16, 2**24, 2**31, 2**63 - 1, 10**30, 0.5, 1e300, float("nan"), float("inf")]
    rest = [True, False, [], {}, [1], [[1]], [[3], [2]], {"name": "gru"}, [8, 8], [3, 8, 8], [0], date(1979, 5, 27)]
    return generator.choice([generator.choice(plain + names), generator.choice(numbers), generator.choice(rest)])


def change_table(table: Any, generator: random.Random) -> Any:
    """One to three values replaced, taken away, doubled or put beside."""

    def ways(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [found for key, item in items for found in [(*way, key), *ways(item, (*way, key))]]

    for _ in range(generator.randint(1, 3)):
        found = ways(table)
        if not found:
            break
        *way, last = generator.choice(found)
        inner = table
        for key in way:
            inner = inner[key]
        kind = generator.choice(["replace", "replace", "near", "delete", "add"])
        if kind == "near" and type(inner[last]) is int:
            inner[last] += generator.choice([-1, 1])
        elif kind == "delete":
            del inner[last]
        elif kind == "add" and isinstance(inner, list):
            inner.append(json.loads(json.dumps(inner[last], default=str)))
        elif kind == "add":
            inner[generator.choice(["a", "name", "rank", "hidden_size", "depth", "bias"])] = values(generator)
        else:
            inner[last] = values(generator)
    return table


def change_toml(content: bytes, generator: random.Random) -> bytes:
    return tomli_w.dumps(change_table(unsigned(tomllib.loads(content.decode())), generator)).encode()


def change_safetensors(content: bytes, generator: random.Random) -> bytes:
    """The header's values, or the tensors' bytes; the length fits."""
    length = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    if generator.random() < 0.3:
        rest = atheris.Mutate(rest, len(rest) + 16)
    else:
        header = change_table(header, generator)
    text = json.dumps(header, default=str).encode()
    return len(text).to_bytes(8, "little") + text + rest


def change_zip(content: bytes, generator: random.Random) -> bytes:
    """A part's bytes; the checksums fit."""
    with ZipFile(io.BytesIO(content)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    chosen = generator.choice(sorted(parts))
    parts[chosen] = atheris.Mutate(parts[chosen], len(parts[chosen]) + 64)
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_STORED) as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return buffer.getvalue()


def change_bytes(content: bytes, generator: random.Random) -> bytes:
    return atheris.Mutate(content, len(content) + 64)


def sign_checkpoint(content: bytes) -> bytes:
    return sha256(content).encode() + content


def sign_run(folder: Path, content: bytes) -> None:
    path = folder / "run" / "run.toml"
    table = unsigned(tomllib.loads(path.read_text()))
    write_toml(path, {**table, "sha256": sha256(content)})


def targets(root: Path) -> list[Target]:
    weights = "population/weights/gru.safetensors"
    images = "folder/train/neg/0.png"
    return [
        Target("population/population.toml", "population", read_population, change_toml, sign_table),
        Target(weights, "population", read_population, change_safetensors),
        Target("population/weights/rnn.pt", "population", read_population, change_zip),
        Target("run/run.toml", "run", read_run, change_toml, sign_table),
        Target("run/fit.safetensors", "run", read_run, change_safetensors, after=sign_run),
        Target("run/history.csv", "run", read_run, change_bytes),
        Target("run/fidelity.csv", "run", read_table_of_fidelity, change_bytes),
        Target("checkpoint.pt", "checkpoint", checkpoint_reader(root), change_zip, sign_checkpoint),
        Target("arrays.npz", "data", data("arrays", path="arrays.npz"), change_zip),
        Target("tokens.npz every", "data", data("arrays", path="tokens.npz", readout="every"), change_zip),
        Target("images.npz", "data", data("image-arrays", path="images.npz"), change_zip),
        Target("snippets.tsv.gz", "data", data("snippets", path="snippets.tsv.gz"), change_bytes, gzip.compress),
        Target("train.csv", "data", data("ag-news", root="", vocabulary="vocabulary.txt"), change_bytes),
        Target("vocabulary.txt", "data", data("ag-news", root="", vocabulary="vocabulary.txt"), change_bytes),
        Target("aclImdb/train/neg/0_1.txt", "data", data("imdb", root="aclImdb"), change_bytes),
        Target("train-images-idx3-ubyte", "data", data("fashion-mnist", root=""), change_bytes),
        Target("train", "data", data("cifar100", root=""), change_bytes),
        Target(images, "data", data("image-folder", root="folder"), change_bytes),
    ]


def seeds(root: Path, target: Target) -> list[bytes]:
    """The file as it was made, without what :attr:`Target.sign` adds; a second manifest, of residual networks."""
    content = (root / target.file).read_bytes()
    if target.sign is gzip.compress:
        return [gzip.decompress(content)]
    if target.sign is sign_checkpoint:
        return [content[64:]]
    if target.sign is sign_table:
        found = [unsigned(tomllib.loads(content.decode()))]
        if target.group == "population":
            found.append(unsigned(tomllib.loads((root / "residual" / "population.toml").read_text())))
            del found[-1]["models"][0]["sha256"]
        return [tomli_w.dumps(table).encode() for table in found]
    return [content]


# One target, in a process of its own


class Watch:
    """Sees what a reader does to files and to the system."""

    def __init__(self, folder: Path) -> None:
        self.places, self.on = (str(folder), *PLACES), False
        sys.addaudithook(self)

    def __call__(self, event: str, found: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(found[0], str | bytes):
            path = os.path.realpath(os.fsdecode(found[0]))
            if not path.startswith(self.places) or int(found[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise Escape(f"it opens {path}")
        elif event.startswith(FORBIDDEN) and event not in PEACEFUL:
            raise Escape(f"{event} {found!r:.200}")


_watch: list[Watch] = []


@contextmanager
def watched(on: bool = True) -> Iterator[None]:
    """Look at what is done inside; or, where it is the script's own work, do not."""
    before = [watch.on for watch in _watch]
    for watch in _watch:
        watch.on = on
    try:
        yield
    finally:
        for watch, state in zip(_watch, before, strict=True):
            watch.on = state


@attrs.define
class Trial:
    """Gives a target one file after another, and counts."""

    target: Target
    folder: Path
    out: Path
    budget: float
    counts: dict[str, float] = attrs.field(factory=lambda: {"runs": 0, "read": 0, "refused": 0, "slowest": 0})
    faults: dict[str, str] = attrs.field(factory=dict)

    def one(self, content: bytes) -> None:
        began, memory = time.process_time(), peak()
        path = self.folder / self.target.file
        path.write_bytes(self.target.sign(content))
        self.target.after(self.folder, content)
        outcome = "read"
        try:
            with watched():
                self.target.read(self.folder)
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
        _watch.append(Watch(root))
        trial = Trial(target, root, out, time.process_time() + seconds)
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
        shown = [f"{figure:,}" if isinstance(figure, int) else figure for figure in figures]
        print("| " + " | ".join([target.name, *shown]) + " |", flush=True)
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

"""What `fuzz.py` changes: a small valid file of every kind, its reader, and how its content is changed and signed."""

import gzip
import io
import json
import random
import shutil
import struct
import tomllib
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import atheris
import attrs
import numpy as np
import tomli_w
import torch

from dynamo import Dataset, Fit, FitOptions, Population, Spec, Trainer
from dynamo.contracts.files import sha256
from dynamo.contracts.protocols import DynamicalModel
from dynamo.fit.fidelity import Fidelity, measure_fidelity, read_fidelity, write_fidelity
from dynamo.population.base_model import BaseModel
from dynamo.registry import full_spec, make, registry
from dynamo.system.storage import table_digest, write_toml
from dynamo.training.blueprint import blueprint_table
from dynamo.training.checkpoint import read_checkpoint

Mutate = Callable[[bytes, random.Random], bytes]
Sign = Callable[[bytes], bytes]


def change_bytes(content: bytes, generator: random.Random) -> bytes:
    return atheris.Mutate(content, len(content) + 64)


@attrs.frozen
class Target:
    """One kind of file.

    Attributes:
        name: the file's place in the folder, or the place and a word.
        group: what it belongs to.
        read: reads the folder.
        use: puts what was read to use, in the same folder.
        mutate: changes the file's content where it means something.
        sign: the bytes of the file from those that were changed, with checksums that are right.
        after: mends what else the folder must have, given the folder and the bytes.
    """

    name: str
    group: str
    read: Callable[[Path], Any]
    use: Callable[[Any, Path], None]
    mutate: Mutate = change_bytes
    sign: Sign = bytes
    after: Callable[[Path, bytes], object] = lambda folder, content: None

    @property
    def file(self) -> str:
        return self.name.partition(" ")[0]


# The files


def make_files(root: Path) -> None:
    """One small valid file of every kind."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(8, 3, 2)).astype("f4"), np.arange(8) % 2
    masks = {f"mask_{part}": np.ones((8, 3), bool) for part in ("train", "test")}
    np.savez(root / "arrays.npz", x_train=x, y_train=y, x_test=x, y_test=y, **masks)
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
            for number, suffix in enumerate(("bmp", "png", "gif", "tif", "jpg")):
                write_picture(root / "folder" / part / name / f"{number}.{suffix}", images[0])
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
    fit.save(root / "run")
    write_fidelity(measure_fidelity(fit, population), root / "run")


# Readers: what they give is written and read again, or put to use


def same(found: object, again: object) -> None:
    if repr(found) != repr(again):
        raise AssertionError(f"after writing and reading {found!r:.300} is {again!r:.300}")


def use_population(found: Population, folder: Path) -> None:
    def told(population: Population) -> object:
        specs = [(base.name, base.metadata, full_spec("dataset", base.data), base.architecture) for base in population]
        return population.fingerprint, specs

    shutil.rmtree(folder / "again", ignore_errors=True)
    found.save(folder / "again")
    same(told(found), told(Population.load(folder / "again")))


def use_run(found: Fit, folder: Path) -> None:
    def told(fit: Fit) -> object:
        table = blueprint_table(fit.emulator.blueprint)
        return fit.theta, fit.names, fit.metadata, fit.history, fit.options, fit.seconds, fit.source, table

    shutil.rmtree(folder / "again-run", ignore_errors=True)
    found.save(folder / "again-run")
    same(told(found), told(Fit.load(folder / "again-run")))
    found.model_at(found.names[0])


def use_fidelity(found: Fidelity, folder: Path) -> None:
    shutil.copytree(folder / "run", folder / "again-fidelity", dirs_exist_ok=True)
    write_fidelity(found, folder / "again-fidelity")
    same(found, read_fidelity(folder / "again-fidelity"))


def use_checkpoint(found: dict[str, Any], folder: Path) -> None:
    trainer = Trainer(found.pop("of"), options_of_fit())
    trainer.resume(folder / "checkpoint.pt")
    shutil.rmtree(folder / "again-run", ignore_errors=True)
    Fit.of(trainer).save(folder / "again-run")
    assert 0 <= found["step"] == trainer.step == len(trainer.history) <= trainer.steps
    trainer.save(folder / "again.pt")
    same(read_checkpoint(folder / "again.pt")["step"], found["step"])


def checkpoint_reader(root: Path) -> Callable[[Path], dict[str, Any]]:
    population = Population.load(root / "population")
    return lambda folder: {**read_checkpoint(folder / "checkpoint.pt"), "of": population}


def data(name: str, **options: str) -> Callable[[Path], Dataset]:
    """A reader of a data set; all its options are places but ``readout``."""

    def read(folder: Path) -> Dataset:
        places = {key: value if key == "readout" else str(folder / value) for key, value in options.items()}
        return make("dataset", Spec(name, places), Dataset)

    return read


def use_data(found: Dataset, folder: Path) -> None:
    found.check("read")
    found.fingerprint()
    if len(found.train) > 1:
        found.halves()


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


def sign_checkpoint(content: bytes) -> bytes:
    return sha256(content).encode() + content


def sign_run(folder: Path, content: bytes) -> None:
    path = folder / "run" / "run.toml"
    table = unsigned(tomllib.loads(path.read_text()))
    write_toml(path, {**table, "sha256": sha256(content)})


def targets(root: Path) -> list[Target]:
    population = partial(
        Target, group="population", read=lambda folder: Population.load(folder / "population"), use=use_population
    )
    run = partial(Target, group="run", read=lambda folder: Fit.load(folder / "run"), use=use_run)
    fidelity = partial(Target, group="run", read=lambda folder: read_fidelity(folder / "run"), use=use_fidelity)
    checkpoint = partial(Target, group="checkpoint", read=checkpoint_reader(root), use=use_checkpoint)

    def of_data(
        name: str, read: Callable[[Path], Dataset], mutate: Mutate = change_bytes, sign: Sign = bytes
    ) -> Target:
        return Target(name, "data", read, use_data, mutate, sign)

    words = data("ag-news", root="", vocabulary="vocabulary.txt")
    return [
        population("population/population.toml", mutate=change_toml, sign=sign_table),
        population("population/weights/gru.safetensors", mutate=change_safetensors),
        population("population/weights/rnn.pt", mutate=change_zip),
        run("run/run.toml", mutate=change_toml, sign=sign_table),
        run("run/fit.safetensors", mutate=change_safetensors, after=sign_run),
        run("run/history.csv"),
        fidelity("run/fidelity.csv"),
        checkpoint("checkpoint.pt", mutate=change_zip, sign=sign_checkpoint),
        of_data("arrays.npz", data("arrays", path="arrays.npz"), change_zip),
        of_data("tokens.npz every", data("arrays", path="tokens.npz", readout="every"), change_zip),
        of_data("images.npz", data("image-arrays", path="images.npz"), change_zip),
        of_data("snippets.tsv.gz", data("snippets", path="snippets.tsv.gz"), change_bytes, gzip.compress),
        of_data("train.csv", words),
        of_data("vocabulary.txt", words),
        of_data("aclImdb/train/neg/0_1.txt", data("imdb", root="aclImdb")),
        of_data("train-images-idx3-ubyte", data("fashion-mnist", root="")),
        of_data("train", data("cifar100", root="")),
        *(
            of_data(f"folder/train/neg/{name}", data("image-folder", root="folder"))
            for name in ("0.bmp", "1.png", "2.gif", "3.tif", "4.jpg")
        ),
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

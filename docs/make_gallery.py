"""Make the gallery: five populations, their maps, and a report of each that explains itself.

    python docs/make_gallery.py                   # all of them, in build/gallery
    python docs/make_gallery.py images --out maps

Each takes one to five minutes on one core, and needs no network. What is there already is not made again, so an
interrupted run goes on; remove its folder to start anew. A map has its picture (``run/map.png``) and its report
(``run/report.html``) in its folder; ``--pictures`` also puts small copies of the pictures where the page of the docs
has them.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from make_pictures import PICTURES, shrink
from torch import nn
from torch.nn import functional

from dynamo import DynamicalModel, Inputs, Population, Trajectory, component
from dynamo.cli import main as dynamo
from dynamo.contracts.data import Dataset
from dynamo.population.scores import score

ROOT = Path(__file__).parent.parent


class Encoder(DynamicalModel):
    """A small Transformer in plain torch, as in BERT: two layers, each a site, whose steps see the whole sentence."""

    def __init__(self, data: Dataset, units: int = 24) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = data.inputs, data.task, ((units,),) * 2
        self.words, self.places = nn.Embedding(data.inputs.size, units), nn.Embedding(64, units)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(units, 4, 2 * units, 0.0, batch_first=True) for _ in range(2)
        )
        self.read = nn.Linear(units, data.task.size)

    def trajectory(self, inputs: Inputs) -> Trajectory:
        """The states of both layers at each word, and what is read of the second."""
        x, states = self.words(inputs.values) + self.places.weight[: inputs.mask.shape[1]], []
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~inputs.mask)
            states.append(x)
        return Trajectory(tuple(states), self.read(x), inputs.mask)


def checkpoints(folder: Path, seeds: int = 4, steps: Sequence[int] = (0, 10, 25, 50, 100, 150, 200, 300)) -> None:
    """Encoders that learn the sentiment of generated sentences, at several steps of each training."""
    data = component("dataset", "synthetic-sentiment").make({"train_size": 3000, "test_size": 400, "max_length": 8})
    half, _ = data.halves()
    networks, metadata = {}, {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        model, order = Encoder(data), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for step in range(max(steps) + 1):
            if step in steps:
                name, kept = f"run-{seed}-step-{step:03d}", Encoder(data).eval()
                kept.load_state_dict(model.state_dict())
                networks[name] = kept.requires_grad_(False)
                metadata[name] = {"run": f"run {seed}", "step": step, "score": round(score(kept, data.test), 3)}
            batch = half[torch.randint(len(half), (64,), generator=order)]
            loss = functional.cross_entropy(model.train().trajectory(batch.inputs).at_readout("last"), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"run {seed}: score {score(model.eval(), data.test):.3f}", flush=True)
    Population.of(networks, data, metadata).save(folder)


def lorenz(folder: Path, systems: int = 24, trials: int = 40, steps: int = 50) -> None:
    """Simulations of E. Lorenz's equations (1963) with different ρ: at small ones trajectories end in a fixed point,
    above 24.74 they are chaotic.
    """
    rng, states, metadata = np.random.default_rng(0), {}, {}
    for rho in np.linspace(8, 40, systems).round(2).tolist():
        points = rng.normal(size=(trials, 3)) * [6, 6, 6] + [0, 0, rho - 1]
        seen = []
        for step in range(20 * (steps + 10)):  # Runge-Kutta of fourth order
            if step >= 200 and step % 20 == 0:
                seen.append(points)
            points = _runge_kutta(points, rho, 0.0025)
        name = f"rho-{rho:05.2f}"
        states[name] = np.stack(seen, axis=1)
        metadata[name] = {"rho": rho, "regime": "chaos" if rho > 24.74 else "fixed points"}
    Population.from_recordings(states, metadata=metadata, units="shared").save(folder)


def _runge_kutta(points: np.ndarray, rho: float, step: float) -> np.ndarray:
    def flow(at):
        x, y, z = at.T
        return np.stack([10 * (y - x), x * (rho - z) - y, x * y - 8 / 3 * z], axis=1)

    first = flow(points)
    second = flow(points + step / 2 * first)
    third = flow(points + step / 2 * second)
    fourth = flow(points + step * third)
    return points + step / 6 * (first + 2 * second + 2 * third + fourth)


@attrs.frozen
class Entry:
    """A map of the gallery.

    Attributes:
        population: the options of `dynamo train`, each of one call; or what saves the base models in a folder.
        fit: the options of `dynamo fit`.
        colour: the metadata that colours the map.
        questions: commands of `dynamo analyse`, for the report.
    """

    population: tuple[str, ...] | Callable[[Path], None]
    fit: str
    colour: str
    questions: tuple[str, ...] = ()


ENTRIES = {
    "digits": Entry(
        tuple(
            f"-a {kind}:hidden_size=24 -d digits-rows --seeds 8 --epochs 20 --batch-size 32 --learning-rate {rate}"
            for kind, rate in (("gru", "3e-3"), ("lstm", "3e-3"), ("rnn", "1e-3"))
        ),
        "--preset laptop",
        "architecture",
        ("clusters --by architecture", "landscape --size 11", "compare --by architecture --methods cka,procrustes,rsa"),
    ),
    "texts": Entry(
        (
            "-a gru:hidden_size=24,embedding_size=16 -d synthetic-sentiment -f 1 -f 0.1 --seeds 8 --epochs 30 "
            "--learning-rate 3e-3",
        ),
        "--preset laptop",
        "fraction",
        ("clusters --by fraction", "averages --between fraction=0.1 fraction=1"),
    ),
    "images": Entry(
        (
            "-a cifar-resnet:depth=8,width=8 -d digits -f 1 -f 0.2 --seeds 6 --epochs 20 --batch-size 32 "
            "--learning-rate 1e-2",
        ),
        "--preset laptop-cnn --steps 300",
        "fraction",
        ("clusters --by fraction",),
    ),
    "recordings": Entry(
        lorenz, "--preset laptop", "rho", ("order --by rho", "clusters --by regime")
    ),
    "checkpoints": Entry(
        checkpoints,
        "--preset laptop --meta-model transformer:layers=2,hidden_size=48 --theta-dim 8",
        "step",
        ("order --by step",),
    ),
}  # fmt: skip


def make(name: str, out: Path) -> Path:
    """Make what is missing of a map.

    Returns:
        Its run folder.
    """
    entry, folder = ENTRIES[name], out / name
    models, run = folder / "models", folder / "run"
    if callable(entry.population):
        if not (models / "population.toml").exists():
            entry.population(models)
    else:
        for options in entry.population:
            call("train", models, options, "--skip-existing")
    if not (run / "run.toml").exists():
        call("fit", models, f"{entry.fit} --colour-by {entry.colour}", "--out", run)
    for question in entry.questions:
        command, _, options = question.partition(" ")
        if not (run / command).exists():
            call("analyse", command, run, options)
    call("report", run, f"--colour-by {entry.colour}")
    return run


def call(*words: object) -> None:
    """A command of dynamo; options may stand in one text."""
    given = [part for word in words for part in (str(word).split() if isinstance(word, str) else [str(word)])]
    print("dynamo", *given, flush=True)
    try:
        dynamo(given)
    except SystemExit as stop:
        if stop.code:
            raise


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ENTRIES)} [default: all]")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gallery", help="where to make them")
    parser.add_argument("--pictures", action="store_true", help="copy the pictures of the maps into the docs")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in ENTRIES]
    if unknown:
        parser.error(f"no map is called {unknown[0]!r}: known: {', '.join(ENTRIES)}")
    for name in given.names or ENTRIES:
        run = make(name, given.out)
        if given.pictures:
            shrink(run / "map.png", PICTURES / f"gallery-{name}.png")
        print(f"{name}: {run / 'report.html'}", flush=True)


if __name__ == "__main__":
    main()

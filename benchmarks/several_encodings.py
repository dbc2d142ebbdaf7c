"""Networks that do not read alike, on one map: words, pieces of words and characters of the same texts.

GRUs learn the sentiment or the source of the snippets (``python -m dynamo_datasets.snippets_download``; or point
$DYNAMO_SNIPPETS at the file), on a tenth of the texts or on all, each reading words, pieces of words or characters. The
meta-model reads words; it meets the others at the ends of words.

- ``fidelity``: is a network that reads characters imitated as well among others as in a population of its own kind,
  whose meta-model reads characters too?
- ``reads``: what if the meta-model reads pieces of words, and if it sees as many examples of each network as there?
- ``groups``: does the map tell tasks and training sizes apart, as it is and with the encoding accounted for, and do
  rivals?
- ``kinds``: GRUs on words, encoders as in BERT on pieces of words, and convolutional networks on characters.

Settings were fixed before the first figure was seen; ``reads`` was added after ``fidelity`` had been. From the
project's folder:

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/several_encodings.py --out encodings --seeds 3
"""

import argparse
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean
from time import process_time

import torch
from torch import nn
from torch.nn import functional

from dynamo import (
    BaseModel,
    Dataset,
    DynamicalModel,
    Fit,
    Population,
    Reencoded,
    Trainer,
    Trajectory,
    measure_fidelity,
    preset,
    train_population,
)
from dynamo.analysis.rivals.compare import compare
from dynamo.fit.fidelity import Fidelity
from dynamo.population.scores import score
from dynamo.registry import make
from dynamo.training.base_models import BaseTrainingOptions

TEXTS = "max_length=16,vocabulary_size=1000,subwords=500"
ENCODINGS = ("words", "subwords", "characters")
TASKS, FRACTIONS, EACH = ("sentiment", "source"), (0.1, 1.0), 2
ARCHITECTURE = "gru:hidden_size=32,embedding_size=24"
TRAINING = BaseTrainingOptions(epochs=5, batch_size=64, learning_rate=3e-3)
STEPS, RIVALS = 700, ("cka", "rsa", "procrustes", "output-disagreement")
UNITS = 24
QUESTIONS = ["fidelity", "reads", "groups", "kinds"]
META_MODELS = ("transformer:layers=2,hidden_size=64", "gru-stack:layers=2,bidirectional=true,hidden_size=64")


@cache
def data(task: str, reads: str = "words") -> Dataset:
    others = "+".join(encoding for encoding in ENCODINGS if encoding != reads)
    return make("dataset", f"snippets:task={task},{TEXTS},reads={reads},encodings={others}", Dataset)


def fitted(population: Population, seed: int, steps: int = STEPS, **options: object) -> tuple[Fit, Fidelity, float]:
    """The fit, its fidelity, and processor seconds of the steps."""
    trainer = Trainer(population, preset("laptop", steps=steps, seed=seed, **options))
    trainer.record()
    started = process_time()
    trainer.run()
    seconds = process_time() - started
    fit = Fit.of(trainer)
    return fit, measure_fidelity(fit, population), seconds


def means(fidelity: Fidelity, population: Population, encoding: str) -> list[str]:
    """Scores, hidden R² and agreement of the models that read so."""
    rows = [row for row, base in zip(fidelity.models, population, strict=True) if base.metadata["encoding"] == encoding]
    figures = ("base_score", "emulator_score", "hidden_r2", "agreement")
    return [f"{fmean(getattr(row, figure) for row in rows):.3f}" for figure in figures]


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def trained(folder: Path, seed: int) -> Population:
    """GRUs of every encoding, task and training size."""
    for encoding, task, part in product(ENCODINGS, TASKS, FRACTIONS):
        train_population(
            folder, [ARCHITECTURE], f"snippets:task={task},{TEXTS},encodings=characters+subwords",
            encoding=encoding, fractions=[part], seeds=range(EACH * seed, EACH * (seed + 1)),
            options=TRAINING, skip_existing=True,
        )  # fmt: skip
    return Population.load(folder)


def native(population: Population, encoding: str) -> Population:
    """The models that read one encoding, with that as their only one."""
    models = []
    tasks: dict[str, Dataset] = {}
    for base in population:
        if base.metadata["encoding"] == encoding:
            task = str(base.metadata["task"])
            dataset = tasks.setdefault(task, data(task) if encoding == "words" else data(task).read_as(encoding))
            model = base.model.model if isinstance(base.model, Reencoded) else base.model
            models.append(BaseModel(base.name, model, dataset, base.metadata))
    return Population(models)


def fidelity(populations: Sequence[Population]) -> None:
    """Every encoding among the others, and alone with a meta-model that reads it."""
    row("population", "seed", "read", "score", "of the emulators", "hidden R²", "agreement", "seconds of the fit")
    for seed, population in enumerate(populations):
        _, found, seconds = fitted(population, seed)
        for encoding in ENCODINGS:
            row("all", seed, encoding, *means(found, population, encoding), f"{seconds:.0f}")
        for encoding in ENCODINGS:
            alone = native(population, encoding)
            _, found, seconds = fitted(alone, seed)
            row("its own", seed, encoding, *means(found, alone, encoding), f"{seconds:.0f}")


def reading(population: Population, reads: str) -> Population:
    """The same networks under a meta-model that reads something else."""
    models = []
    for base in population:
        encoding, dataset = str(base.metadata["encoding"]), data(str(base.metadata["task"]), reads)
        model = base.model.model if isinstance(base.model, Reencoded) else base.model
        model = model if encoding == reads else Reencoded(model, encoding, dataset.inputs)
        models.append(BaseModel(base.name, model, dataset, base.metadata))
    return Population(models)


def reads(populations: Sequence[Population]) -> None:
    """Words or pieces of words for the meta-model; as many steps as before, and as many examples of each network."""
    row(
        "the meta-model reads",
        "steps",
        "seed",
        "read",
        "score",
        "of the emulators",
        "hidden R²",
        "agreement",
        "seconds",
    )
    for seed, population in enumerate(populations):
        for read, steps in (("subwords", STEPS), ("words", 3 * STEPS), ("subwords", 3 * STEPS)):
            again = reading(population, read)
            _, found, seconds = fitted(again, seed, steps)
            for encoding in ENCODINGS:
                row(read, steps, seed, encoding, *means(found, again, encoding), f"{seconds:.0f}")


def groups(populations: Sequence[Population]) -> None:
    """AUPRC of pairs of one group, of DYNAMO and rivals, as they are and with the encoding accounted for."""
    row("seed", "groups", "accounted for", "method", "AUPRC", "nearest neighbour")
    for seed, population in enumerate(populations):
        fit, _, _ = fitted(population, seed)
        for by, without in product(("encoding", "task", "fraction"), (None, "encoding")):
            if by == without:
                continue
            found = compare(fit, population, by, methods=RIVALS, examples=256, without=without, seed=seed)
            for method in found.methods:
                cells = ["", ""] if method.figures is None else [
                    f"{method.figures.auprc:.3f}", f"{method.figures.neighbour_accuracy:.2f}"
                ]  # fmt: skip
                row(seed, by, without or "nothing", method.name, *cells)


class Attentive(DynamicalModel):
    """An encoder as in BERT, in plain torch."""

    def __init__(self, inputs, outputs, layers=2) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = inputs, outputs, ((UNITS,),) * layers
        self.tokens, self.places = nn.Embedding(inputs.size, UNITS), nn.Embedding(256, UNITS)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(UNITS, 4, 2 * UNITS, 0.0, batch_first=True) for _ in range(layers)
        )
        self.read = nn.Linear(UNITS, outputs.size)

    def trajectory(self, inputs):
        x, states = self.tokens(inputs.values) + self.places.weight[: inputs.mask.shape[1]], []
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~inputs.mask)
            states.append(x)
        return Trajectory(tuple(states), self.read(x), inputs.mask)


class Convolutional(DynamicalModel):
    """Two convolutions over the steps, each seeing the seven around its own."""

    def __init__(self, inputs, outputs) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = inputs, outputs, ((UNITS,),) * 2
        self.tokens = nn.Embedding(inputs.size, UNITS)
        self.layers = nn.ModuleList(nn.Conv1d(UNITS, UNITS, 7, padding=3) for _ in range(2))
        self.read = nn.Linear(UNITS, outputs.size)

    def trajectory(self, inputs):
        real, states = inputs.mask[:, None], []
        x = self.tokens(inputs.values).transpose(1, 2) * real
        for layer in self.layers:
            x = functional.relu(layer(x)) * real
            states.append(x.transpose(1, 2))
        counts = inputs.mask.cumsum(1)[..., None].clamp(min=1)
        return Trajectory(tuple(states), self.read(states[-1].cumsum(1) / counts), inputs.mask)


def learnt(model: DynamicalModel, seed: int) -> DynamicalModel:
    """The model after five epochs of Adam on the task."""
    half, _ = data("sentiment").halves()
    optimizer, generator = torch.optim.Adam(model.parameters(), 3e-3), torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(TRAINING.epochs):
        for rows in torch.randperm(len(half), generator=generator).split(TRAINING.batch_size):
            batch = half[rows]
            loss = functional.cross_entropy(model.trajectory(batch.inputs).at_readout("last"), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


def kinds(seeds: Iterable[int]) -> None:
    """Three ways of reading and three architectures, on one map."""
    dataset = data("sentiment")
    inputs, outputs = dataset.inputs, dataset.task
    row("seed", "kind", "score", "of the emulators", "hidden R²", "agreement", "seconds of the fit", "AUPRC of kinds")
    for seed in seeds:
        models = []
        for number in range(4):
            torch.manual_seed(10 * seed + number)
            made = {
                "gru on words": make("architecture", ARCHITECTURE, DynamicalModel, inputs, outputs),
                "encoder on subwords": Reencoded(Attentive(dataset.encodings["subwords"], outputs), "subwords", inputs),
                "convolutions on characters": Reencoded(
                    Convolutional(dataset.encodings["characters"], outputs), "characters", inputs
                ),
            }
            for kind, model in made.items():
                learnt(model, number)
                name = f"{kind.replace(' ', '-')}-{number}"
                metadata = {"encoding": kind, "score": score(model, dataset.test)}
                models.append(BaseModel(name, model, dataset, metadata))
        population = Population(models)
        for meta_model in (
            "transformer:layers=2,hidden_size=64",
            "gru-stack:layers=2,bidirectional=true,hidden_size=64",
        ):
            fit, found, seconds = fitted(population, seed, meta_model=meta_model, sites="pool")
            apart = compare(fit, population, "encoding", methods=[], examples=256, seed=seed).methods[0]
            assert apart.figures is not None
            for kind in made:
                row(seed, f"{kind} ({meta_model.split(':')[0]})", *means(found, population, kind), f"{seconds:.0f}",
                    f"{apart.figures.auprc:.3f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], help="[default: all]")
    parser.add_argument("--out", type=Path, default=Path("encodings"), help="the folder of the populations")
    parser.add_argument("--seeds", type=int, default=3, help="populations, each of networks of its own")
    given = parser.parse_args()
    asked = given.questions or QUESTIONS
    populations = []
    if set(asked) - {"kinds"}:
        populations = [trained(given.out / str(seed), seed) for seed in range(given.seeds)]
    for question in asked:
        print(f"\n{question}", flush=True)
        if question == "kinds":
            kinds(range(given.seeds))
        else:
            {"fidelity": fidelity, "reads": reads, "groups": groups}[question](populations)


if __name__ == "__main__":
    main()

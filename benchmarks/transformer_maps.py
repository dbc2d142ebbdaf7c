"""Transformers, and networks of different depth, on one map.

Small encoders, decoders, GRUs, LSTMs and bidirectional LSTMs learn generated sentences (``synthetic-sentiment``). Time
is the words' order, and every layer is a site.

- ``steps``: 12 checkpoints of an encoder's training. Do they lie in their order along the map's leading coordinate?
- ``groups``: encoders against decoders, and encoders of two layers against those of four.
- ``kinds``: GRUs, LSTMs, encoders and decoders on one map.
- ``both-ways``: how well is a network that sees the whole sentence imitated by a meta-model that does, and by one that
  does not?
- ``grus``: how well does each meta-model imitate GRUs, at equal parameters, in as many steps and in as much time?

All meta-models of a question have the same number of parameters to 5 %. From the project's folder:

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/transformer_maps.py
    python benchmarks/transformer_maps.py both-ways --seeds 1
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from statistics import fmean
from time import process_time

import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from dynamo import Dataset, DynamicalModel, Fit, Population, Trainer, Trajectory, measure_fidelity, preset
from dynamo.analysis.rivals.pairs import pair_figures
from dynamo.contracts.protocols import MetaModel
from dynamo.population.base_model import BaseModel
from dynamo.population.scores import score
from dynamo.registry import make

DATA = "synthetic-sentiment:train_size=3000,test_size=400,max_length=8,negations=1,intensifiers=1"
UNITS, BATCH, TRAINING = 24, 64, 300
CHECKPOINTS = [0, 5, 10, 20, 30, 45, 60, 90, 120, 160, 220, 300]
THETA, STEPS = 8, 300
#: Every meta-model has about so many parameters.
PARAMETERS = 60_000
EACH = 4

Row = Sequence[str]


class Attentive(DynamicalModel):
    """A small Transformer in plain torch: an encoder as in BERT or a decoder as in GPT."""

    def __init__(self, data: Dataset, layers: int, *, causal: bool) -> None:
        super().__init__()
        self.inputs, self.outputs, self.causal = data.inputs, data.outputs, causal
        self.state_shapes = ((UNITS,),) * layers
        self.words, self.places = nn.Embedding(data.inputs.size, UNITS), nn.Embedding(64, UNITS)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(UNITS, 4, 2 * UNITS, 0.0, batch_first=True) for _ in range(layers)
        )
        self.read = nn.Linear(UNITS, data.outputs.size)

    def trajectory(self, inputs):
        steps = inputs.mask.shape[1]
        x, states = self.words(inputs.values) + self.places.weight[:steps], []
        later = torch.ones(steps, steps, dtype=torch.bool).triu(1) if self.causal else None
        for layer in self.layers:
            x = layer(x, src_mask=later, src_key_padding_mask=None if self.causal else ~inputs.mask)
            states.append(x)
        return Trajectory(tuple(states), self.read(x), inputs.mask)


class BothWays(DynamicalModel):
    """A bidirectional LSTM in plain torch, with one layer."""

    def __init__(self, data: Dataset) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = data.inputs, data.outputs, ((UNITS,),)
        self.words = nn.Embedding(data.inputs.size, UNITS)
        self.rnn = nn.LSTM(UNITS, UNITS // 2, batch_first=True, bidirectional=True)
        self.read = nn.Linear(UNITS, data.outputs.size)

    def trajectory(self, inputs):
        lengths = inputs.mask.sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.words(inputs.values), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.rnn(packed)[0], batch_first=True, total_length=inputs.mask.shape[1]
        )
        return Trajectory((states,), self.read(states), inputs.mask)


def recurrent(name: str, data: Dataset) -> DynamicalModel:
    spec = f"{name}:hidden_size={UNITS},embedding_size={UNITS}"
    return make("architecture", spec, DynamicalModel, data.inputs, data.outputs)


KINDS: Mapping[str, Callable[[Dataset], DynamicalModel]] = {
    "encoder": partial(Attentive, layers=2, causal=False),
    "decoder": partial(Attentive, layers=2, causal=True),
    "deep encoder": partial(Attentive, layers=4, causal=False),
    "bilstm": BothWays,
    "gru": partial(recurrent, "gru"),
    "lstm": partial(recurrent, "lstm"),
}
#: With the place of their size.
META: Mapping[str, str] = {
    "gru": "gru:embedding_size=32,hidden_size={}",
    "gru-stack": "gru-stack:embedding_size=32,hidden_size={}",
    "gru-stack, both ways": "gru-stack:embedding_size=32,bidirectional=true,hidden_size={}",
    "transformer, causal": "transformer:layers=2,causal=true,hidden_size={}",
    "transformer": "transformer:layers=2,hidden_size={}",
}


@cache
def sentences() -> Dataset:
    return make("dataset", DATA, Dataset)


def parameters(spec: str) -> int:
    made = make("meta-model", spec, MetaModel, sentences().inputs, THETA)
    return sum(part.numel() for part in made.parameters())


@cache
def sized(name: str) -> str:
    """The meta-model of a name with the size that has the wanted parameters."""
    specs = [META[name].format(size) for size in range(16, 160, 4)]
    return min(specs, key=lambda spec: abs(parameters(spec) - PARAMETERS))


def trained(kind: str, seed: int, checkpoints: Sequence[int] = (TRAINING,)) -> list[DynamicalModel]:
    """A network as it is after some steps of training, one copy for each."""
    data = sentences()
    torch.manual_seed(seed)
    model, half, kept = KINDS[kind](data), data.halves()[0], []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(checkpoints[-1] + 1):
        if step in checkpoints:
            copy = KINDS[kind](data)
            copy.load_state_dict(model.state_dict())
            kept.append(copy.eval().requires_grad_(False))
        rows = torch.randint(len(half), (BATCH,))
        inputs = half.inputs[rows]
        loss = functional.cross_entropy(model(inputs.values, inputs.mask), half.targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return kept


@cache
def networks(kind: str, seed: int) -> tuple[BaseModel, ...]:
    """Some networks of a kind, each with an initialisation and an order of the data of its own."""
    made = []
    for number in range(EACH):
        (model,) = trained(kind, 100 * seed + number)
        metadata = {"kind": kind, "score": round(score(model, sentences().test), 3)}
        made.append(BaseModel(f"{kind.replace(' ', '-')}-{number}", model, sentences(), metadata))
    return tuple(made)


def fitted(population: Population, meta_model: str, seed: int, steps: int = STEPS) -> tuple[Fit, float]:
    """A fit, and the processor seconds of its steps."""
    options = preset(
        "laptop", meta_model=sized(meta_model), theta_dim=THETA, batch_size=128, steps=steps, seed=seed, sites="pool"
    )
    trainer = Trainer(population, options)
    trainer.record()
    start = process_time()
    trainer.run()
    return Fit.of(trainer), process_time() - start


def fidelity(fit: Fit, population: Population, kinds: Sequence[str] = ()) -> list[tuple[float, float]]:
    """Mean hidden R² and agreement, of all base models or of each kind."""
    models = measure_fidelity(fit, population).models
    groups = [[base.metadata["kind"] == kind for base in population] for kind in kinds] or [[True] * len(models)]
    chosen = [[model for model, own in zip(models, group, strict=True) if own] for group in groups]
    return [(fmean(model.hidden_r2 for model in own), fmean(model.agreement for model in own)) for own in chosen]


def steps(seed: int) -> list[Row]:
    models = trained("encoder", 100 * seed, CHECKPOINTS)
    population = Population(
        [
            BaseModel(f"s{step}", model, sentences(), {"kind": "encoder", "step": step})
            for step, model in zip(CHECKPOINTS, models, strict=True)
        ]
    )
    fit, seconds = fitted(population, "transformer", seed)
    orders = (
        abs(spearmanr(fit.distances(kind).coordinates(1)[:, 0], CHECKPOINTS).statistic) for kind in (None, "theta")
    )
    ((hidden, agreement),) = fidelity(fit, population)
    return [[*(f"{figure:.2f}" for figure in (*orders, hidden, agreement)), f"{seconds:.0f}"]]


def groups(seed: int) -> list[Row]:
    rows = []
    for pair in (("encoder", "decoder"), ("encoder", "deep encoder")):
        population = Population([base for kind in pair for base in networks(kind, seed)])
        fit, seconds = fitted(population, "transformer", seed)
        kinds = [str(base.metadata["kind"]) for base in population]
        found = pair_figures(fit.distances().matrix, kinds, permutations=1)
        theta = pair_figures(fit.distances("theta").matrix, kinds, permutations=1)
        ((hidden, agreement),) = fidelity(fit, population)
        ari = max(found.ari.values())
        figures = (found.auprc, found.auprc_chance, ari, theta.auprc, hidden, agreement)
        rows.append([" / ".join(pair), *(f"{figure:.2f}" for figure in figures), f"{seconds:.0f}"])
    return rows


def kinds(seed: int) -> list[Row]:
    every = ("gru", "lstm", "encoder", "decoder")
    population = Population([base for kind in every for base in networks(kind, seed)])
    rows = []
    for name in ("transformer", "gru-stack, both ways"):
        fit, seconds = fitted(population, name, seed)
        found = pair_figures(fit.distances().matrix, [base.metadata["kind"] for base in population], permutations=1)
        cells = [f"{hidden:.2f} {agreement:.2f}" for hidden, agreement in fidelity(fit, population, every)]
        rows.append([name, *cells, f"{found.auprc:.2f}", f"{found.auprc_chance:.2f}", f"{seconds:.0f}"])
    return rows


def both_ways(seed: int) -> list[Row]:
    rows = []
    for kind in ("encoder", "bilstm"):
        population = Population(networks(kind, seed))
        for name in ("gru", "gru-stack, both ways", "transformer"):
            fit, seconds = fitted(population, name, seed)
            ((hidden, agreement),) = fidelity(fit, population)
            size = f"{parameters(sized(name)):,}"
            rows.append([kind, name, size, f"{hidden:.2f}", f"{agreement:.2f}", f"{seconds:.0f}"])
    return rows


def grus(seed: int) -> list[Row]:
    population, rows, limit = Population(networks("gru", seed)), [], 0.0
    for name in META:
        fit, seconds = fitted(population, name, seed)
        limit = limit or seconds
        ((hidden, agreement),) = fidelity(fit, population)
        same, count = (hidden, agreement), max(20, round(STEPS * limit / seconds))
        if name != "gru":
            same = fidelity(fitted(population, name, seed, count)[0], population)[0]
        cells = [f"{parameters(sized(name)):,}", f"{hidden:.2f} {agreement:.2f}", f"{seconds:.0f}"]
        rows.append([name, *cells, f"{same[0]:.2f} {same[1]:.2f}", str(count)])
    return rows


QUESTIONS: Mapping[str, tuple[Callable[[int], list[Row]], str]] = {
    "both-ways": (both_ways, "base models,meta-model,parameters,hidden R²,agreement,processor s"),
    "steps": (steps, "Spearman,of θ,hidden R²,agreement,processor s"),
    "groups": (groups, "groups,AUPRC,by chance,best ARI,AUPRC of θ,hidden R²,agreement,processor s"),
    "kinds": (kinds, "meta-model,GRU,LSTM,encoder,decoder,AUPRC of kinds,by chance,processor s"),
    "grus": (grus, "meta-model,parameters,in as many steps,processor s,in as much time,steps"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", help=f"{', '.join(QUESTIONS)}; all of them where none is named")
    parser.add_argument("--seeds", type=int, default=3, help="of the base models and of the fits")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(given.seeds):
        for name in given.questions or QUESTIONS:
            work, columns = QUESTIONS[name]
            print(f"\n{name}, seed {seed}\n\n| " + " | ".join(columns.split(",")) + " |")
            print("|" + "---|" * (columns.count(",") + 1), flush=True)
            for row in work(seed):
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()

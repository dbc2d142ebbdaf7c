"""How should θ enter the meta-model, and where should V_n start? What makes a map that is better to begin with.

Protocol, fixed before looking:

Populations. Five with groups: GRUs of 24 units trained on all or a quarter of the digits (8 + 8); GRUs, LSTMs and tanh
RNNs on digits (6 + 6 + 6); GRUs on sentences, all or a quarter (8 + 8), and with or without dropout of 0.4 (8 + 8);
GRUs, LSTMs and tanh RNNs on the flip-flop (6 + 6 + 6). Two families with one parameter (``known_populations.py``): a
leak, and a frequency in random frames. Control: whether the seed of a base model is even.

Fits. The preset ``laptop`` with a meta-model of 64 units, batches of 128 and 300 steps, and one setting changed. First
one seed of every setting on digits by architecture. What does best there goes on to the others, with three seeds.

Figures. By θ and by emulated states (the meta-model's states at θ_n on 256 probe inputs, flat): AUPRC, ARI of k-means,
silhouette; for families the share of models whose nearest neighbour is next to them in the parameter, and Spearman's
|ρ| of the parameter with the first principal component. Stability: correlation of distances, mean over pairs of seeds.
Hidden R², agreement, processor seconds.

A setting wins where, in the mean over populations with groups, AUPRC by θ rises by 0.02 and by states does not fall by
0.01, hidden R² does not fall by 0.005 nor agreement by 0.01, no family gets worse by 0.1 of neighbours, and the time
does not grow by more than 30 %.

    python benchmarks/conditioning.py --out conditioning --seeds 1
    python benchmarks/conditioning.py --out conditioning --seeds 3 --settings laptop "V turned at the start"
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any

import attrs
import numpy as np
import torch
from known_populations import leaks, rotations
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr
from torch import Tensor

from dynamo import Fit, FitOptions, Inputs, Population, Trainer, measure_fidelity, train_population
from dynamo.analysis.geometry.clusters import group_agreement
from dynamo.analysis.rivals.pairs import pair_figures
from dynamo.population.recording import state_variances
from dynamo.training.base_models import BaseTrainingOptions
from dynamo.training.presets import PRESETS

SMALL = {"meta_model": "gru:hidden_size=64,embedding_size=64", "steps": 300, "batch_size": 128}
PROBES = 256


def digits(folder: Path, *architectures: str, seeds: int = 8, fractions: Sequence[float] = (1.0,)) -> Population:
    options = BaseTrainingOptions(epochs=30, learning_rate=5e-3)
    return train_population(
        folder,
        architectures,
        "digits-rows",
        fractions=fractions,
        seeds=range(seeds),
        options=options,
        skip_existing=True,
    )


SENTENCES = "synthetic-sentiment:train_size=2000,test_size=300,max_length=8"


def sentences(
    folder: Path, dropout: float = 0.0, prefix: str = "plain", fractions: Sequence[float] = (1.0,)
) -> Population:
    return train_population(
        folder,
        [f"gru:hidden_size=24,embedding_size=16,dropout={dropout}"],
        SENTENCES,
        fractions=fractions,
        seeds=range(8),
        options=BaseTrainingOptions(epochs=15, learning_rate=5e-3),
        skip_existing=True,
        metadata={"dropout": prefix},
        prefix=prefix,
    )


def with_dropout(folder: Path) -> Population:
    sentences(folder)
    sentences(folder, 0.4, "dropout")
    return Population.load(folder)


def flip_flop(folder: Path) -> Population:
    return train_population(
        folder,
        ["gru:hidden_size=24", "lstm:hidden_size=24", "rnn:hidden_size=24"],
        "flip-flop:bits=2,steps=8,train_size=1200,test_size=200,pulse_probability=0.3",
        seeds=range(6),
        options=BaseTrainingOptions(epochs=25, learning_rate=5e-3),
        skip_existing=True,
    )


POPULATIONS: Mapping[str, tuple[str, Callable[[Path], Population]]] = {
    "digits, size": ("fraction", lambda folder: digits(folder, "gru:hidden_size=24", fractions=(1.0, 0.25))),
    "digits, architecture": (
        "architecture",
        lambda folder: digits(folder, "gru:hidden_size=24", "lstm:hidden_size=24", "rnn:hidden_size=24", seeds=6),
    ),
    "sentences, size": ("fraction", lambda folder: sentences(folder, fractions=(1.0, 0.25))),
    "sentences, dropout": ("dropout", with_dropout),
    "flip-flop, architecture": ("architecture", flip_flop),
    "leak": ("parameter", lambda folder: leaks(steps=8)),
    "frequency": ("parameter", lambda folder: rotations(steps=10)),
}
GROUPS = [name for name, (by, _) in POPULATIONS.items() if by != "parameter"]
FAMILIES = [name for name, (by, _) in POPULATIONS.items() if by == "parameter"]


@attrs.frozen
class Setting:
    """What differs from the preset.

    Attributes:
        options: of the fit.
        start: of the V_n: "random", "solved" (least squares) or "turned" (the
            orthogonal matrix that best fits, with random matrices' mean square).
        solve_at: steps after which the V_n are solved again.
        wait: steps before θ moves.
        decay: weight decay of θ.
        noise: on θ, in standard deviations of the population's.
        isometry: weight of the stress between distances of θ and of emulated states.
        balanced: divide both losses by those of the best constant guess.
    """

    options: Mapping[str, Any] = attrs.field(factory=dict)
    start: str = "random"
    solve_at: Sequence[int] = ()
    wait: int = 0
    decay: float = 0.0
    noise: float = 0.0
    isometry: float = 0.0
    balanced: bool = False


SETTINGS: Mapping[str, Setting] = {
    "laptop": Setting(),
    "V solved at the start": Setting(start="solved"),
    "V turned at the start": Setting(start="turned"),
    "θ waits 50 steps": Setting(wait=50),
    "V solved at step 30": Setting(solve_at=(30,)),
    "V solved every 50 steps": Setting(start="solved", solve_at=tuple(range(50, 300, 50))),
    "V orthogonal": Setting({"state_map": "orthogonal:bias=true"}),
    "decay of θ 3": Setting(decay=3.0),
    "noise on θ 0.3": Setting(noise=0.3),
    "hidden loss scaled, λ = 1": Setting({"scale_hidden": True, "output_weight": 1.0}),
    "both losses scaled, λ = 1": Setting({"output_weight": 1.0}, balanced=True),
    "isometry 1": Setting(isometry=1.0),
    "d = 6": Setting({"theta_dim": 6}),
}


class Trial(Trainer):
    """A trainer with a setting's own parts."""

    def __init__(self, population: Population, setting: Setting, seed: int, whole: bool) -> None:
        options = {**PRESETS["laptop"], **({} if whole else SMALL), "seed": seed, **setting.options}
        super().__init__(population, FitOptions(**options))
        self.setting = setting
        self._annealed.optimizer.param_groups[1]["weight_decay"] = setting.decay
        self._generator = torch.Generator().manual_seed(seed)
        self.record()
        if setting.start in ("solved", "turned"):
            self.solve(turned=setting.start == "turned")

    def train(self) -> None:
        meta_model, states = self.emulator.meta_model, self.emulator.meta_model.states

        def noisy(inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
            spread = torch.stack(list(self.emulator.thetas)).detach().std(0).mean()
            return states(inputs, theta + self.setting.noise * spread * torch.randn_like(theta))

        if self.setting.noise:
            meta_model.states = noisy  # type: ignore[method-assign]
        self.emulator.thetas.requires_grad_(self.setting.wait == 0)
        self.run(progress=self.between)
        meta_model.__dict__.pop("states", None)

    def between(self, step: int, steps: int | None, note: str | float = "", /) -> None:
        if step in self.setting.solve_at:
            self.solve()
        if step == self.setting.wait + 1:
            self.emulator.thetas.requires_grad_()

    @torch.no_grad()
    def solve(self, turned: bool = False) -> None:
        """V_n by least squares (with a ridge of a thousandth of the mean variance) on 128 of its recordings; or a
        multiple of the orthogonal matrix that turns the meta-model's states to the base model's.
        """
        for number in range(len(self.population)):
            source = self.recordings[number]
            inputs, target = source.batch(torch.randperm(len(source), generator=self._generator)[:128])
            states = self.emulator.meta_model.states(inputs, self.emulator.thetas[number].expand(len(inputs), -1))[0]
            x, y = states[inputs.mask], target.states[0][inputs.mask]
            mean_x, mean_y = x.mean(0), y.mean(0)
            x, y = x - mean_x, y - mean_y
            square = x.T @ x
            square.diagonal().add_(1e-3 * square.diagonal().mean())
            if turned:
                left, _, right = torch.linalg.svd(y.T @ x, full_matrices=False)
                weight = left @ right / 3**0.5
            else:
                weight = torch.linalg.solve(square, x.T @ y).T
            layer = self.emulator.maps_of(number)[0].map
            layer.weight.copy_(weight)  # type: ignore[union-attr,operator]
            layer.bias.copy_(mean_y - weight @ mean_x)  # type: ignore[union-attr,operator]

    def losses(self, chosen: Sequence[int], rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        hidden, output = super().losses(chosen, rows)
        if self.setting.balanced:
            both = torch.tensor([self.chance[number] for number in chosen])
            hidden, output = hidden / both[:, 0], output / both[:, 1]
        if self.setting.isometry:
            hidden = hidden + self.setting.isometry * self.stress()
        return hidden, output

    @property
    def chance(self) -> list[tuple[float, float]]:
        """The losses of the best constant guess."""
        if not hasattr(self, "_chance"):
            self._chance = []
            for number, source in enumerate(self.recordings):
                _, target = source.batch(torch.arange(min(len(source), 1024)))
                outputs = target.outputs[target.mask]
                if self.population[number].outputs.kind == "classes":
                    guess = outputs.softmax(-1).mean(0).log().expand_as(outputs)
                else:
                    guess = outputs.mean(0).expand_as(outputs)
                output = float(self.plan.output[number](guess[None], outputs[None]).mean())
                self._chance.append((float(state_variances(target)[0]), output))
        return self._chance

    def stress(self) -> Tensor:
        """Between distances of θ and of the states on 8 shared inputs."""
        source = self.recordings[0]
        inputs, _ = source.batch(torch.randint(len(source), (8,), generator=self._generator))
        theta = torch.stack(list(self.emulator.thetas))
        states = emulated_states(self.emulator.meta_model, theta, inputs)
        rows, columns = torch.triu_indices(len(theta), len(theta), 1)
        far = (states[rows] - states[columns]).square().mean(1).add(1e-8).sqrt()
        near = (theta[rows] - theta[columns]).square().sum(1).add(1e-8).sqrt()
        scale = (far * near).sum() / near.square().sum()
        return (far - scale * near).square().sum() / far.square().sum()


def emulated_states(meta_model: Any, theta: Tensor, inputs: Inputs) -> Tensor:
    """The meta-model's states at every θ on the same inputs, on real steps, ``[N, R * H]``."""
    count, repeated = len(theta), inputs.mask.repeat(len(theta), 1)
    values = inputs.values.repeat(count, *[1] * (inputs.values.ndim - 1))
    states = meta_model.states(Inputs(values, repeated), theta.repeat_interleave(len(inputs), dim=0))[0]
    return states[repeated].view(count, -1)


def fitted(population: Population, setting: Setting, seed: int, whole: bool) -> dict[str, Any]:
    start = process_time()
    trainer = Trial(population, setting, seed, whole)
    start, recorded = process_time(), start
    trainer.train()
    seconds = process_time() - start
    fit = Fit.of(trainer)
    fidelity = measure_fidelity(fit, population)
    source = trainer.recordings[0]
    probes, _ = source.batch(torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:PROBES])
    with torch.no_grad():
        parts = [emulated_states(fit.emulator.meta_model, theta[None], probes) for theta in fit.theta]
    points = {"theta": fit.theta.double().numpy(), "states": coordinates(torch.cat(parts).double().numpy())}
    figures = {name: fidelity.mean(name) for name in ("hidden_r2", "agreement")}
    return {
        **{name: value.tolist() for name, value in points.items()},
        **figures,
        "seconds": seconds,
        "before": start - recorded,
    }


def coordinates(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same distances in as many coordinates as there are points."""
    left, sizes, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
    found: NDArray[np.float64] = left * sizes / np.sqrt(points.shape[1])
    return found


def group_figures(points: NDArray[np.float64], groups: Sequence[object]) -> dict[str, float]:
    found = group_agreement(points, groups)
    area = pair_figures(squareform(pdist(points)), groups, permutations=1).auprc
    return {"AUPRC": area, "ARI": found.ari, "silhouette": found.silhouette}


def family_figures(points: NDArray[np.float64], values: Sequence[float]) -> dict[str, float]:
    distances = squareform(pdist(points))
    np.fill_diagonal(distances, np.inf)
    ranks = np.argsort(np.argsort(values))
    right = np.abs(ranks - ranks[distances.argmin(1)]) == 1
    first = coordinates(points)[:, 0]
    return {"neighbours": float(right.mean()), "order": abs(float(spearmanr(first, values)[0]))}


def figures(population: Population, by: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Every figure of some seeds of a setting on a population."""
    labels: list[Any] = [base.metadata[by] for base in population]
    rows: dict[str, list[float]] = {}
    for kind in ("theta", "states"):
        maps = [np.array(run[kind]) for run in runs]
        for points in maps:
            found = family_figures(points, labels) if by == "parameter" else group_figures(points, labels)
            if by != "parameter":
                control = [int(base.metadata["seed"]) % 2 for base in population]  # type: ignore[arg-type]
                found["control"] = group_figures(points, control)["AUPRC"]
            for name, value in found.items():
                rows.setdefault(f"{name} by {kind}", []).append(value)
        if len(maps) > 1:
            correlations = np.corrcoef([pdist(points) for points in maps])[np.triu_indices(len(maps), 1)]
            rows[f"stability by {kind}"] = [float(correlations.mean())]
    for name in ("hidden_r2", "agreement", "seconds"):
        rows[name] = [run[name] for run in runs]
    return rows


def table(rows: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], names: Sequence[str]) -> str:
    """Means over seeds and the named populations, a line a setting."""
    columns = list(
        dict.fromkeys(column for by_name in rows.values() for name in names for column in by_name.get(name, {}))
    )
    lines = ["| setting | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for setting, by_name in rows.items():
        cells = []
        for column in columns:
            values = [fmean(by_name[name][column]) for name in names if column in by_name.get(name, {})]
            cells.append(f"{fmean(values):.3f}" if values else "")
        lines.append(f"| {setting} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("conditioning"), help="folder of populations and results")
    parser.add_argument("--seeds", type=int, default=3, help="of the meta-model")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--populations", nargs="*", choices=POPULATIONS, default=list(POPULATIONS))
    parser.add_argument("--whole", action="store_true", help="the preset's own meta-model, batches and 700 steps")
    parser.add_argument("--each", action="store_true", help="a table for every population too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, Any]] = {name: {} for name in given.settings}
    for name in given.populations:
        by, make = POPULATIONS[name]
        folder = given.out / name.replace(", ", "-").replace(" ", "-")
        population = make(folder / "population")
        scores = [base.metadata["score"] for base in population if "score" in base.metadata]
        print(name, len(population), "models; scores", [round(float(score), 3) for score in scores], flush=True)  # type: ignore[arg-type]
        for setting in given.settings:
            runs = []
            for seed in range(given.seeds):
                path = folder / f"{'whole-' if given.whole else ''}{setting.replace(' ', '-')}-{seed}.json"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(fitted(population, SETTINGS[setting], seed, given.whole)))
                runs.append(json.loads(path.read_text()))
            rows[setting][name] = figures(population, by, runs)
            print(
                setting, {key: [round(v, 3) for v in values] for key, values in rows[setting][name].items()}, flush=True
            )
    for names in ([name] for name in given.populations if given.each):
        print(f"\n{names[0]}\n\n{table(rows, names)}")
    for names in (GROUPS, FAMILIES):
        print(f"\n{', '.join(names)}\n\n{table(rows, names)}")


if __name__ == "__main__":
    main()

"""Recorded systems: does the map of systems of which nothing is known but what they did follow their parameter?

Six families of simulated systems, 13 values of one parameter each; ten are fitted, three (one in four, none at an end)
are kept apart. A trial is a clip of 26 steps from a first state of its own, and nothing else is told.

    lorenz      ρ 28 to 52, on the attractor; x, y, z
    van-der-pol μ 0.3 to 3; position and velocity
    pendulum    damping 0.02 to 0.6; angle and velocity
    hopf        μ 0.1 to 1.5, at one frequency: the radius of the cycle is √μ, and how fast it is reached
    ring        speed of the bump of a ring of 12 to 24 neurons: every system has units of its own
    readouts    lorenz, each system read through a random linear map by 6 to 30 units of its own

40 trials of each system; `ring-400` and `readouts-400` have 400.

    python benchmarks/recorded_systems.py --out recorded --seeds 3

What is reported, for seeds of the meta-model (the recordings are the same):

    Spearman    of the leading principal coordinate and the parameter, by the default distance and by θ
    R² between  of the trials of a system that is kept apart, as the meta-model predicts them from their first states at
                the θ between those of its neighbours, in proportion to the parameter: over all steps but the first,
                which was told, and all units, in units of their standard deviation. Where units are shared.
    placed      how far from its parameter a system that is kept apart is put by dynamo.embed, in steps between
                neighbouring parameters; read off by linear interpolation along the leading component of θ
    DSA         Spearman of its leading coordinate, on the same trials; `delays` is dsa-metric with 5 delays and rank 10

And five regimes of Lorenz (ρ 15, 28, 40, 60, 90), 20 recordings of 500 steps each, each a system of its own, cut into
clips of 25 steps: the silhouette of the regimes; five recordings at ρ 50 are placed.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import attrs
import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import silhouette_score

from dynamo import Fit, FitOptions, Population, Trainer, embed, measure_fidelity, preset
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.rivals import distance_matrix
from dynamo.analysis.rivals.compare import common_recordings
from dynamo.fit.distances import principal_coordinates

TRIALS, STEPS, APART = 40, 26, (3, 6, 9)
REGIMES, CLIPS, LENGTH, NEW = (15.0, 28.0, 40.0, 60.0, 90.0), 20, 500, 50.0

Field = Callable[[np.ndarray], np.ndarray]


def simulate(field: Field, first: np.ndarray, steps: int, dt: float, fine: int = 4, before: int = 0) -> np.ndarray:
    """Runge-Kutta of the fourth order, ``fine`` steps within each: ``[trial, time, unit]``."""
    h, state, states = dt / fine, first.astype(float), []
    for step in range(before + steps):
        if step >= before:
            states.append(state)
        for _ in range(fine):
            k1 = field(state)
            k2 = field(state + h / 2 * k1)
            k3 = field(state + h / 2 * k2)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(state + h * k3))
    return np.stack(states, axis=1)


def lorenz_field(rho: float) -> Field:
    def field(s: np.ndarray) -> np.ndarray:
        x, y, z = s.T
        return np.stack([10 * (y - x), x * (rho - z) - y, x * y - 8 / 3 * z], axis=1)

    return field


def lorenz(rho: float, rng: np.random.Generator, trials: int) -> np.ndarray:
    first = rng.normal(size=(trials, 3)) * 5 + [0, 0, rho - 1]
    return simulate(lorenz_field(rho), first, STEPS, 0.02, before=500)


def van_der_pol(mu: float, rng: np.random.Generator, trials: int) -> np.ndarray:
    def field(s: np.ndarray) -> np.ndarray:
        return np.stack([s[:, 1], mu * (1 - s[:, 0] ** 2) * s[:, 1] - s[:, 0]], axis=1)

    return simulate(field, rng.uniform(-2.5, 2.5, size=(trials, 2)), STEPS, 0.2)


def pendulum(damping: float, rng: np.random.Generator, trials: int) -> np.ndarray:
    def field(s: np.ndarray) -> np.ndarray:
        return np.stack([s[:, 1], -np.sin(s[:, 0]) - damping * s[:, 1]], axis=1)

    return simulate(field, rng.uniform(-2, 2, size=(trials, 2)), STEPS, 0.25)


def hopf(mu: float, rng: np.random.Generator, trials: int) -> np.ndarray:
    def field(s: np.ndarray) -> np.ndarray:
        x, y = s.T
        growth = mu - x**2 - y**2
        return np.stack([growth * x - 2 * y, growth * y + 2 * x], axis=1)

    return simulate(field, rng.uniform(-1.5, 1.5, size=(trials, 2)), STEPS, 0.15)


def ring(speed: float, rng: np.random.Generator, trials: int) -> np.ndarray:
    """A ring of rate neurons whose weights are turned against each other, so that the bump moves."""
    units = int(rng.integers(12, 25))
    place = np.linspace(0, 2 * np.pi, units, endpoint=False)
    turned = np.arctan(speed)
    weights = (-2.0 + 6.0 * np.cos(place[:, None] - place + turned) / np.cos(turned)) / units

    def field(s: np.ndarray) -> np.ndarray:
        return -s + np.tanh(np.maximum(s @ weights.T + 0.5, 0))

    bumps = np.maximum(np.cos(place - rng.uniform(0, 2 * np.pi, size=(trials, 1))), 0)
    return simulate(field, bumps * rng.uniform(0.3, 1, size=(trials, 1)), STEPS, 0.25)


def readouts(rho: float, rng: np.random.Generator, trials: int) -> np.ndarray:
    states = lorenz(rho, rng, trials)
    return states @ rng.normal(size=(3, int(rng.integers(6, 31))))


@attrs.frozen
class Family:
    """A family of systems: how one is simulated, the parameter's values, whether units are shared, and how many trials
    each system has.
    """

    make: Callable[[float, np.random.Generator, int], np.ndarray]
    values: np.ndarray
    units: str = "shared"
    trials: int = TRIALS


FAMILIES = {
    "lorenz": Family(lorenz, np.linspace(28, 52, 13)),
    "van-der-pol": Family(van_der_pol, np.linspace(0.3, 3, 13)),
    "pendulum": Family(pendulum, np.linspace(0.02, 0.6, 13)),
    "hopf": Family(hopf, np.linspace(0.1, 1.5, 13)),
    "ring": Family(ring, np.linspace(0.1, 1.3, 13), "own"),
    "readouts": Family(readouts, np.linspace(28, 52, 13), "own"),
    "ring-400": Family(ring, np.linspace(0.1, 1.3, 13), "own", 400),
    "readouts-400": Family(readouts, np.linspace(28, 52, 13), "own", 400),
}


def options(seed: int, systems: int = 10) -> FitOptions:
    """The preset ``laptop`` with a meta-model of half the size and four sevenths of the steps."""
    return preset("laptop", meta_model="gru:hidden_size=64", steps=400, batch_size=max(256, 4 * systems), seed=seed)


def fitted(population: Population, seed: int) -> tuple[Fit, float]:
    """A fit and its processor seconds."""
    trainer, before = Trainer(population, options(seed, len(population))), process_time()
    trainer.run()
    return Fit.of(trainer), process_time() - before


def leading(matrix: np.ndarray) -> np.ndarray:
    return principal_coordinates(matrix)[0][:, 0]


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    return abs(float(spearmanr(one, other).statistic))


def delayed_dsa(population: Population) -> np.ndarray:
    """dsa-metric as its authors use it on few observed units: with delays."""
    from DSA import DMD, SimilarityTransformDist

    laws = []
    for base in population:
        run = base.trajectories.probe[:TRIALS]
        law = DMD(run.states[0].numpy(), n_delays=5, rank=10)
        law.fit()
        laws.append(np.linalg.eigvals(law.A_v.numpy()))
    distance = SimilarityTransformDist(score_method="wasserstein")
    found = np.zeros((len(laws), len(laws)))
    for one in range(len(laws)):
        for other in range(one):
            found[one, other] = found[other, one] = float(distance.fit_score(laws[one], laws[other]))
    return found


def rivals(population: Population) -> dict[str, tuple[np.ndarray, float]]:
    """The distances of DSA, as it is in DYNAMO and with delays, and the seconds they took."""
    found = {}
    recordings = common_recordings(population, TRIALS)
    for name, measure in (
        ("dsa", lambda: distance_matrix("dsa", recordings, examples=None)),
        ("dsa-delays", lambda: delayed_dsa(population)),
    ):
        started = perf_counter()
        found[name] = measure(), perf_counter() - started
    return found


def read_off(fit: Fit, theta: torch.Tensor, values: np.ndarray) -> np.ndarray:
    """The parameters that places on the map stand for."""
    axes = spectrum(fit.theta.double().numpy()).components[0]
    known, new = (part.double().numpy() @ axes for part in (fit.theta, theta))
    order = np.argsort(known)
    return np.interp(new, known[order], values[order])


def between(fit: Fit, apart: Population, values: np.ndarray, parameters: np.ndarray) -> list[float]:
    """R² of trials that nobody has seen, at the θ between two neighbours."""
    found = []
    for base, parameter in zip(apart, parameters, strict=True):
        after = int(np.searchsorted(values, parameter))
        share = float((parameter - values[after - 1]) / (values[after] - values[after - 1]))
        theta = torch.lerp(fit.theta[after - 1], fit.theta[after], share)
        inputs, truth = apart.dataset(base).probes(), base.trajectories.probe.outputs[:, 1:]
        with torch.no_grad():
            guess = fit.model_at(theta)(inputs.values, inputs.mask)[:, 1:]
        error, spread = (guess - truth).square().sum(), (truth - truth.mean((0, 1))).square().sum()
        found.append(1 - float(error / spread))
    return found


def family(name: str, seeds: int) -> dict[str, Any]:
    """All figures of one family."""
    made = FAMILIES[name]
    states = [
        made.make(value, np.random.default_rng([7, number]), made.trials) for number, value in enumerate(made.values)
    ]
    is_apart = np.isin(np.arange(len(states)), APART)
    values, parameters = made.values[~is_apart], made.values[is_apart]

    def population(chosen: np.ndarray, **settings: Any) -> Population:
        part = [state for state, keep in zip(states, chosen, strict=True) if keep]
        return Population.from_recordings(part, names=[f"p{v:.3f}" for v in made.values[chosen]],
                                          metadata={"parameter": made.values[chosen].tolist()},
                                          units=made.units, **settings)  # fmt: skip

    known = population(~is_apart)
    apart = population(is_apart, like=known)
    rows = []
    for seed in range(seeds):
        fit, seconds = fitted(known, seed)
        fidelity = measure_fidelity(fit, known)
        placed = embed(fit, apart, fidelity)
        spacing = made.values[1] - made.values[0]
        rows.append(
            {
                "hidden r2": fidelity.mean("hidden_r2"),
                "spearman": spearman(leading(fit.distances().matrix), values),
                "spearman theta": spearman(leading(fit.distances("theta").matrix), values),
                "between": between(fit, apart, values, parameters) if made.units == "shared" else [],
                "placed": (np.abs(read_off(fit, placed.theta, values) - parameters) / spacing).tolist(),
                "placed r2": placed.fidelity.mean("hidden_r2"),
                "foreign": int(placed.is_foreign.sum()),
                "processor s": seconds,
            }
        )
        print(name, seed, rows[-1], flush=True)
    others = {
        rival: {"spearman": spearman(leading(matrix), values), "s": took}
        for rival, (matrix, took) in rivals(known).items()
    }
    print(name, others, flush=True)
    return {"seeds": rows, "rivals": others}


def regimes(seeds: int) -> dict[str, Any]:
    """Five regimes of Lorenz."""
    rng = np.random.default_rng(11)

    def recordings(rho: float, count: int) -> list[np.ndarray]:
        first = rng.normal(size=(count, 3)) * 5 + [0, 0, rho - 1]
        return list(simulate(lorenz_field(rho), first, LENGTH, 0.02)[:, None])

    states = [state for rho in REGIMES for state in recordings(rho, CLIPS)]
    values = np.repeat(REGIMES, CLIPS)
    known = Population.from_recordings(states, metadata={"rho": values.tolist()}, units="shared", clip=25)
    new = Population.from_recordings(recordings(NEW, 5), names=[f"new-{n}" for n in range(5)], units="shared", clip=25,
                                     like=known)  # fmt: skip

    def judged(matrix: np.ndarray) -> dict[str, float]:
        return {
            "silhouette": float(silhouette_score(matrix, values, metric="precomputed")),
            "spearman": spearman(leading(matrix), values),
        }

    rows = []
    for seed in range(seeds):
        fit, seconds = fitted(known, seed)
        fidelity = measure_fidelity(fit, known)
        placed = embed(fit, new, fidelity)
        rows.append(
            {
                "hidden r2": fidelity.mean("hidden_r2"),
                **judged(fit.distances().matrix),
                "theta": judged(fit.distances("theta").matrix),
                "rho": read_off(fit, placed.theta, values).tolist(),
                "placed r2": placed.fidelity.mean("hidden_r2"),
                "processor s": seconds,
            }
        )
        print("regimes", seed, rows[-1], flush=True)
    others = {rival: {**judged(matrix), "s": took} for rival, (matrix, took) in rivals(known).items()}
    print("regimes", others, flush=True)
    return {"seeds": rows, "rivals": others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[*FAMILIES, "regimes"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        found = regimes(arguments.seeds) if name == "regimes" else family(name, arguments.seeds)
        (arguments.out / f"{name}.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

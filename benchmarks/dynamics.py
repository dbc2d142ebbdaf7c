"""Section 5 and appendices B.4 and C on a run whose base models fall into two groups: what shape have the attractors at
the base models, at the centroids of the groups, between these and at the best θ; do the state maps carry the dynamics
of the meta-model to the base models; and do models that read words well do the task well?

    python benchmarks/dynamics.py RUN --by fraction

It prints four tables and writes them, with figure8.png and figure11.png, into RUN/dynamics.

- Attractors are approximate fixed points of h ↦ F(x*, h): the nearest states to visited ones that a step moves by at
  most 5 % of the usual step (`nearly_fixed`), and fixed points to q < 1e-12. Those of the
  meta-model are measured as base models see them: through V_n at θ_n, and at other places through the two maps of the
  models that lie nearest to the centroids, (V_a h, V_b h) / √2; "own states" are the meta-model's. A length that is
  seen is comparable with those in base models. "Extent" is that of all points, length and width are of the largest
  piece.
- "Carried" is the mean distance (Chamfer's) from what V_n makes of the meta-model's points to the base model's own
  points, over the widest distance between visited states.
- The best θ is the one with the least loss on labelled training examples that `dynamo.analysis.networks.search` finds;
  it is scored on the test examples.
- Word scores use Table 3, or words of the vocabulary's own with --positive, --negative and --neutral.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import process_time

import attrs
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from dynamo import Fit, Population
from dynamo.analysis.dynamics.attractor_map import AttractorAt, attractors_over_the_map, set_distances
from dynamo.analysis.dynamics.base_view import BaseView
from dynamo.analysis.dynamics.conjugacy import PLACES, conjugacy
from dynamo.analysis.dynamics.fixed_points import sample_states
from dynamo.analysis.dynamics.transport import transport
from dynamo.analysis.dynamics.word_map import shuffled_correlation, word_map
from dynamo.analysis.dynamics.words import TABLE_3, WordLists, word_list
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.networks.averages import mean_theta
from dynamo.analysis.networks.evaluate import scores_at
from dynamo.analysis.networks.over_the_map import Places, places_between
from dynamo.analysis.networks.search import search
from dynamo.analysis.networks.task import Task, base_scores, task_of
from dynamo.report.plots.attractor import draw_attractors
from dynamo.report.plots.map import COLOURS, draw_models
from dynamo.report.plots.words import plot_words

Floats = NDArray[np.float64]
FIGURES = ("dimension", "extent", "length", "width", "elongation", "curvature", "crossing_time", "alignment")
SEQUENCES = 512


@attrs.frozen
class Subject:
    """What is looked at, and how hard.

    Attributes:
        fit, population, task: the run.
        groups: the group of each base model.
        held: the constant input.
        starts: visited states to search from at each place.
        seed: of their draw.
    """

    fit: Fit
    population: Population
    task: Task
    groups: tuple[str, ...]
    held: str
    starts: int
    seed: int

    def attractors(
        self, model_at: Callable[[Floats], torch.nn.Module], places: Places, view: BaseView | None, rounds: int = 1
    ) -> tuple[AttractorAt, ...]:
        inputs = self.task.dataset.halves()[1][:SEQUENCES]
        return attractors_over_the_map(
            model_at,
            places,
            inputs,
            held=self.held,
            tokens=self.task.dataset.tokens,
            starts=self.starts,
            rounds=rounds,
            seed=self.seed,
            slow="nearest",
            view=view,
        ).attractors

    def emulator(self, theta: Floats) -> torch.nn.Module:
        return self.fit.model_at(theta.tolist(), self.task.head)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(columns), ["---"] * len(columns), *([shown(cell) for cell in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def shown(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return "" if np.isnan(cell) else "∞" if np.isinf(cell) else f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def shape_cells(found: AttractorAt) -> list[object]:
    shape = found.shape
    cells = [found.name, f"{shape.kind} ({shape.number})", f"{found.stable} + {found.saddles}", len(shape.points)]
    return [*cells, *(float(getattr(shape, name)) for name in FIGURES)]


def spread(values: Sequence[float] | Floats) -> str:
    known = np.array(values)[np.isfinite(values)]
    return f"{shown(float(known.mean()))} ± {shown(float(known.std()))}" if len(known) else ""


def group_cells(what: str, group: str, found: Sequence[AttractorAt]) -> list[object]:
    kinds = [one.shape.kind for one in found]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    fixed = f"{np.mean([one.stable for one in found]):.2g} + {np.mean([one.saddles for one in found]):.2g}"
    points = f"{np.mean([len(one.shape.points) for one in found]):.0f}"
    figures = [spread([getattr(one.shape, name) for one in found]) for name in FIGURES]
    return [f"{what}, {group}", counted, fixed, points, *figures]


def geometry(subject: Subject, label: str, best: Floats, points: int) -> tuple[str, list[AttractorAt], list[str]]:
    """The tables of shapes, the attractors along the way for the picture, and sentences."""
    fit, task, population = subject.fit, subject.task, subject.population
    one, other = dict.fromkeys(subject.groups)
    ends = (f"{label}={one}", f"{label}={other}")
    way, theta = places_between(fit, *ends, points=points), fit.theta.double().numpy()
    near = [int(np.linalg.norm(theta - way.thetas[end], axis=1).argmin()) for end in (0, -1)]
    view = BaseView.of(fit, population, near)
    between = (f"{name} of the way" for name in way.names[1:-1])
    places = Places((ends[0], *between, ends[1], "best θ"), np.vstack([way.thetas, best]), (None,) * (points + 1))
    along = list(subject.attractors(subject.emulator, places, view, rounds=2))
    three = [0, points - 1, points]
    names = tuple(f"{places.names[place]}, own states" for place in three)
    raw = subject.attractors(subject.emulator, Places(names, places.thetas[three], (None,) * 3), None)
    own: list[AttractorAt] = []
    at_models: list[AttractorAt] = []
    for number, base in enumerate(population):
        place = Places((base.name,), theta[number : number + 1], (None,))
        own += subject.attractors(lambda _, model=base.model: model, place, None)
        at_models += subject.attractors(subject.emulator, place, BaseView.of(fit, population, [number]))
    scores = scores_at(fit, places.thetas, task.dataset.test, metric="score", head=task.head)
    columns = ["place", "shape (pieces)", "stable + saddles", "points"]
    columns += ["dimension", "extent", "length", "width", "elongation", "curvature", "crossing time", "alignment"]
    cells = [[*shape_cells(found), float(score)] for found, score in zip(along, scores, strict=True)]
    cells += [[*shape_cells(found), ""] for found in raw]
    for what, several in (("base models", own), ("meta-model at θ_n by V_n", at_models)):
        for group in (one, other):
            chosen = [found for found, its in zip(several, subject.groups, strict=True) if its == group]
            cells.append([*group_cells(what, group, chosen), ""])
    told = [f"Seen by {fit.names[near[0]]} and {fit.names[near[1]]}.", extent_sentence(subject.groups, own, at_models)]
    told.append(carried(subject, own, at_models, raw[:2]))
    return table([*columns, "test score"], cells), along, told


def extent_sentence(groups: Sequence[str], own: Sequence[AttractorAt], at_models: Sequence[AttractorAt]) -> str:
    """Does the meta-model at θ_n have the extent of the base model's attractor?"""
    extents = np.array([[found.shape.extent for found in several] for several in (own, at_models)])
    told = []
    for group in ("all", *dict.fromkeys(groups)):
        chosen = np.array([group in (its, "all") for its in groups])
        found = shuffled_correlation(*extents[:, chosen])
        told.append(f"{group} {found.rho:.2f} (p {found.p:.2g}, {found.count} models)")
    return f"Spearman of the extents in the base models and at their θ_n: {', '.join(told)}."


def carried(
    subject: Subject, own: Sequence[AttractorAt], at_models: Sequence[AttractorAt], centroids: Sequence[AttractorAt]
) -> str:
    """How near V_n brings the meta-model's points to the base model's own."""
    names = list(dict.fromkeys(subject.groups))
    inputs = subject.task.dataset.halves()[1][:SEQUENCES]
    apart = []
    for number, base in enumerate(own):
        view = BaseView.of(subject.fit, subject.population, [number])
        mine = names.index(subject.groups[number])
        images = [at_models[number].shape.points]
        images += [view(torch.from_numpy(centroids[group].shape.points)).numpy() for group in (mine, 1 - mine)]
        visited = sample_states(subject.population[number].model, inputs, subject.starts, seed=subject.seed)
        distances = set_distances([base.shape.points, *images])[0][0, 1:]
        apart.append(distances / float(torch.pdist(visited).max()))
    means = np.nanmean(apart, 0)
    order = np.mean([row[1] < row[2] for row in apart])
    where = ", ".join(f"{mean:.3f} from {place}" for mean, place in zip(means, PLACES, strict=True))
    return f"Carried: {where}; own below other centroid for {order:.0%} of the models."


def conjugacy_table(subject: Subject, label: str, steps: Sequence[int], starts: int) -> str:
    groups = list(subject.groups)
    found = conjugacy(subject.fit, subject.population, groups, steps=steps, starts=starts, seed=subject.seed)
    over = transport(subject.fit, subject.population, groups)
    columns = [label, "θ at", *(f"residual, {k} step{'s' * (k > 1)}" for k in steps)]
    columns += ["fixed points", "speed of V_n h*", "distance of spectra"]
    rows = []
    for group in (*dict.fromkeys(groups), "all"):
        chosen = [number for number, its in enumerate(groups) if group in (its, "all")]
        for number, place in enumerate(PLACES):
            rest = (found.fixed_points, found.speed, found.spectra)
            figures = [found.residual[chosen, number, k] for k in range(len(steps))]
            rows.append([group, place, *map(spread, [*figures, *(part[chosen, number] for part in rest)])])
    share = ", ".join(f"{ordered:.0%} ({k})" for k, ordered in zip(steps, found.ordered, strict=True))
    own_first = ", ".join(
        f"{np.mean(found.residual[:, 0, k] < found.residual[:, 1, k]):.0%} ({steps[k]})" for k in range(len(steps))
    )
    maps = over.inverses
    full = sum(one.rank == one.dimension for one in maps)
    return table(columns, rows) + (
        f"\nθ_n below the own centroid for {own_first} of the models (steps), own centroid below the other for {share}."
        f" V_n keeps all dimensions that hold 95 % of the variance of visited states in {full} of {len(maps)} models "
        f"(dimensions {spread([one.dimension for one in maps])}, rank {spread([one.rank for one in maps])}, condition "
        f"{spread([one.condition for one in maps])}); V_n⁺V_n loses {spread([one.lost for one in maps])} of the "
        f"variance. V_m V_n⁺ leaves unexplained {over.mean(within=True):.3f} within groups, "
        f"{over.mean(within=False):.3f} between.\n"
    )


def words_table(subject: Subject, lists: WordLists, size: int, path: Path, label: str) -> str:
    found = word_map(subject.fit, subject.population, lists, size=size, head=subject.task.head, seed=subject.seed)
    values = subject.fit.values_of(label)
    plot_words(found, label, values).savefig(path, dpi=110)
    rows: list[list[object]] = []
    for name, several, scores, over in (
        ("meta-model at θ_n", found.emulators, found.landscape.emulator_scores, found.over_models),
        ("base models", found.base_models, found.landscape.base_scores, found.over_base_models),
    ):
        for group in dict.fromkeys(subject.groups):
            own = np.array([its == group for its in subject.groups])
            parts = [
                np.array([np.nan if one is None else getattr(one, figure) for one in several])[own]
                for figure in ("score", "separation", "rest")
            ]
            within = shuffled_correlation(parts[0], scores[own])
            cell = f"{within.rho:.2f} (p {within.p:.2f}, {within.count} pairs)"
            rows.append([f"{name}, {group}", *map(spread, parts), spread(scores[own]), cell])
        rows.append([f"{name}, all", "", "", "", "", f"{over.rho:.2f} (p {over.p:.3f}, {over.count} pairs)"])
    grid = found.over_grid
    rows.append(["grid", "", "", "", "", f"{grid.rho:.2f} (p {grid.p:.3f}, {grid.count} pairs)"])
    columns = ["of", "word score", "separation", "rest", "test score", "Spearman of word score and test score"]
    lists = found.lists
    counts = f"{len(lists.positive)} positive, {len(lists.negative)} negative, {len(lists.neutral)} neutral words"
    return f"{table(columns, rows)}\n{counts}; not in the vocabulary: {', '.join(found.missing) or 'none'}.\n"


def figure8(subject: Subject, label: str, along: Sequence[AttractorAt], thetas: Floats, path: Path) -> None:
    """The map with the way across it beside the attractors on the way."""
    result = spectrum(subject.fit.theta.double().numpy())
    rows = -(-len(along) // 3)
    figure = Figure(figsize=(15.5, max(5.6, 2.7 * rows + 0.9)), layout=ConstrainedLayoutEngine(h_pad=0.1))
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.35])
    axes = left.subplots()
    xy = (thetas - subject.fit.theta.double().numpy().mean(0)) @ result.components[:2].T
    axes.plot(*xy[:-1].T, "-", color="#888888", linewidth=0.9, zorder=1)
    draw_models(axes, result.coordinates[:, :2], label, subject.fit.values_of(label))
    axes.plot(*xy[1:-2].T, ".", color="black", label="between the centroids")
    axes.plot(*xy[[0, -2]].T, "*", color="black", markersize=15, markeredgecolor="white", label="centroids", zorder=4)
    axes.plot(*xy[-1:].T, "x", color=COLOURS[5], markersize=11, markeredgewidth=2.4, label="best θ", zorder=4)
    axes.legend(frameon=False, fontsize=9, title=label)
    axes.set_xlabel(f"first component ({result.shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({result.shares[1]:.0%})")
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    draw_attractors(right, along, 3)
    figure.savefig(path, dpi=110)


def report(subject: Subject, label: str, out: Path, given: argparse.Namespace, lists: WordLists) -> str:
    fit, task, population = subject.fit, subject.task, subject.population
    out.mkdir(parents=True, exist_ok=True)
    one, other = dict.fromkeys(subject.groups)
    clock, parts = process_time(), []

    def done(text: str) -> None:
        nonlocal clock
        parts.append(f"{text}\n({process_time() - clock:.0f} processor seconds)\n")
        clock = process_time()
        print(parts[-1], flush=True)

    chosen = search(fit, population, metric="loss", budget=given.budget, examples=500, head=task.head)
    best, mean = scores_at(
        fit, np.stack([chosen.theta, mean_theta(fit)]), task.dataset.test, metric="score", head=task.head
    )
    scores = base_scores(task, task.dataset.test)
    done(
        f"Best θ by search: test score {best:.3f}, base models {np.mean(scores):.3f} "
        f"(best {max(scores):.3f}), meta-model at the mean θ {mean:.3f}; "
        f"{chosen.distance:.2f} standard deviations from the mean."
    )
    shapes, along, told = geometry(subject, label, chosen.theta, given.points)
    ends = [mean_theta(fit, f"{label}={group}") for group in (one, other)]
    figure8(subject, label, along, np.vstack([np.linspace(*ends, given.points), chosen.theta]), out / "figure8.png")
    done(shapes + "\n" + " ".join(told))
    done(conjugacy_table(subject, label, (1, 5), given.conjugacy_starts))
    if task.dataset.tokens and given.size:
        done(words_table(subject, lists, given.size, out / "figure11.png", label))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with recurrent base models in two groups")
    parser.add_argument("--by", required=True, help="the label with the two groups")
    parser.add_argument("--population", type=Path, default=None, help="where the base models are now")
    parser.add_argument("--out", type=Path, default=None, help="default: RUN/dynamics")
    parser.add_argument("--input", default="zeros", help="x*: zeros, mean or token:WORD")
    parser.add_argument("--points", type=int, default=5, help="places from centroid to centroid")
    parser.add_argument("--starts", type=int, default=100, help="visited states to search from at each place")
    parser.add_argument("--conjugacy-starts", type=int, default=20, help="the same for the table of conjugacy")
    parser.add_argument("--budget", type=int, default=80, help="places that the search for the best θ scores")
    parser.add_argument("--size", type=int, default=7, help="places along each side of the map of word scores; 0: none")
    parser.add_argument("--positive", type=word_list, default=TABLE_3.positive)
    parser.add_argument("--negative", type=word_list, default=TABLE_3.negative)
    parser.add_argument("--neutral", type=word_list, default=TABLE_3.neutral)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    fit = Fit.load(given.run)
    population = fit.open_population(given.population)
    groups = tuple(str(value) for value in fit.values_of(given.by))
    if len(set(groups)) != 2:
        raise SystemExit(f"{given.by} has the values {', '.join(dict.fromkeys(groups))}: this needs two groups")
    subject = Subject(fit, population, task_of(fit, population), groups, given.input, given.starts, given.seed)
    out = given.out or given.run / "dynamics"
    lists = WordLists(given.positive, given.negative, given.neutral)
    text = report(subject, given.by, out, given, lists)
    (out / "tables.md").write_text(text)


if __name__ == "__main__":
    main()

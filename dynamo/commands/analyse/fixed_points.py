"""``dynamo analyse fixed-points``: where does a recurrent model stand still?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder

if TYPE_CHECKING:
    from dynamo.analysis.dynamics.fixed_points import FixedPoints
    from dynamo.analysis.dynamics.linearisation import Linearisation
    from dynamo.contracts.data import Dataset
    from dynamo.contracts.protocols import DynamicalModel
    from dynamo.fit.fit import Fit
    from dynamo.population.population import Population

#: So many eigenvalues and outputs at most are columns of the table.
EIGENVALUES, OUTPUTS = 3, 6


@click.command()
@on_a_run("fixed-points")
@click.option(
    "--at",
    default="mean",
    show_default=True,
    help="a base model, KEY=VALUE for the mean θ of a group, mean, or zero",
)
@click.option("--base", is_flag=True, help="the base model itself instead of its emulator")
@click.option("--head", default=None, help="what reads the meta-model; needed where there are several heads")
@click.option("--input", "held", default="zeros", show_default=True, help="what is held: zeros, mean, or token:WORD")
@click.option("--starts", type=click.IntRange(min=1), default=1024, show_default=True, help="states to start from")
@click.option(
    "--noise", type=click.FloatRange(min=0), default=0.1, show_default=True, help="added to them: standard deviation"
)
@click.option(
    "--sequences", type=click.IntRange(min=1), default=500, show_default=True, help="test inputs they are from"
)
@click.option("--method", default="newton", show_default=True, help="newton, nearest, gradient or lbfgs")
@click.option(
    "--tolerance", type=float, default=1e-12, show_default=True, help="half squared speed below which a point is fixed"
)
@click.option(
    "--slow-tolerance", type=float, default=1e-6, show_default=True, help="the same for points that are called slow"
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="of the states that are drawn")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    at: str,
    base: bool,
    head: str | None,
    held: str,
    starts: int,
    noise: float,
    sequences: int,
    method: str,
    tolerance: float,
    slow_tolerance: float,
    seed: int,
) -> None:
    """Where does a recurrent model stand still while its input is held, and what does it do nearby?

    For line attractors, where much of a line is nearly fixed: --method nearest --tolerance 1e-6.
    """
    from dynamo.analysis.dynamics.constant_input import constant_input
    from dynamo.analysis.dynamics.fixed_points import find_fixed_points, sample_states
    from dynamo.analysis.dynamics.linearisation import linearise
    from dynamo.analysis.dynamics.portrait import portrait
    from dynamo.contracts.files import write_bytes
    from dynamo.report import terminal
    from dynamo.report.plots.fixed_points import plot_fixed_points, turning_page

    fit, models = open_run(run, population)
    model, dataset = _subject(fit, models, at, base, head)
    folder = results_folder(run, out, "fixed-points")
    inputs = dataset.test.inputs[:sequences]
    x = constant_input(model, held, inputs, tokens=dataset.tokens)
    visited = sample_states(model, inputs, starts, noise=noise, seed=seed)
    with terminal.progress() as stages:
        tick = stages("looking for fixed points", starts)
        found = find_fixed_points(
            model,
            x,
            visited,
            method=method,
            tolerance=tolerance,
            slow_tolerance=slow_tolerance,
            seed=seed,
            progress=tick,
        )
    if len(found) == 0:
        click.echo(f"{told(found)}\nnothing is written: try more --starts, --noise, or a larger --slow-tolerance")
        return
    near = linearise(model, x, found.states)
    shown = portrait(
        model, x, inputs, points=found.states[~found.is_outlier] if not bool(found.is_outlier.all()) else None
    )
    title = f"{'base model' if base else 'meta-model at'} {at}, input held at {held}"
    keep(folder, "fixed-points", *table(found, near), plot_fixed_points(shown, found, near, title))
    write_bytes(folder / "fixed-points.html", turning_page(shown, found, near, title).encode())
    click.echo(f"to turn  {folder / 'fixed-points.html'}\n{told(found, near)}")


def told(found: "FixedPoints", near: "Linearisation | None" = None) -> str:
    """What was found, in sentences."""
    fixed = found.is_fixed & ~found.is_outlier
    slow = int((~found.is_fixed & ~found.is_outlier).sum())
    kinds = f" ({int((fixed & near.is_stable).sum())} of them stable)" if near is not None else ""
    sentences = [f"fixed points: {int(fixed.sum())}{kinds}; slow points: {slow}"]
    if outliers := int(found.is_outlier.sum()):
        sentences.append(f"{outliers} more far outside the states that the model visits (outlier in the table)")
    if found.unconverged:
        overflow = f", {found.exploded} of them to numbers that overflow" if found.exploded else ""
        sentences.append(f"{found.unconverged} of {len(found.ends)} starts led to no point{overflow}")
    return "; ".join(sentences)


def table(found: "FixedPoints", near: "Linearisation") -> tuple[list[str], list[list[object]]]:
    """Columns and a row for each point."""
    moduli = near.eigenvalues.abs()[:, :EIGENVALUES]
    outputs = near.outputs[:, :OUTPUTS]
    columns = ["point", "kind", "q", "starts", "outlier", "stable", "unstable directions", "time constant"]
    columns += [f"modulus {number + 1}" for number in range(moduli.shape[1])]
    columns += [f"output {number + 1}" for number in range(outputs.shape[1])]
    rows: list[list[object]] = []
    for number in range(len(found)):
        rows.append(
            [
                number,
                "fixed" if bool(found.is_fixed[number]) else "slow",
                f"{float(found.speed[number]):.1e}",
                int(found.counts[number]),
                "yes" if bool(found.is_outlier[number]) else "",
                "yes" if bool(near.is_stable[number]) else "",
                int(near.unstable[number]),
                float(near.time_constants[number, 0]),
                *moduli[number].tolist(),
                *outputs[number].tolist(),
            ]
        )
    return columns, rows


def _subject(
    fit: "Fit", population: "Population", at: str, base: bool, head: str | None
) -> "tuple[DynamicalModel, Dataset]":
    """The model that is asked for, and the data set whose inputs it reads."""
    from dynamo.analysis.networks.averages import mean_theta
    from dynamo.contracts.errors import DynamoError, did_you_mean

    if at in fit.names:
        chosen = population[fit.names.index(at)]
        return (chosen.model if base else fit.model_at(at, head)), population.dataset(chosen)
    if base:
        raise DynamoError(f"--base needs --at with a base model's name, not {at!r}: {did_you_mean(at, fit.names)}")
    theta = [0.0] * fit.theta.shape[1] if at == "zero" else mean_theta(fit, "all" if at == "mean" else at).tolist()
    model = fit.model_at(theta, head)
    fitting = (one for number, one in enumerate(population) if head in (None, fit.emulator.group_of(number)))
    return model, population.dataset(next(fitting))

"""``dynamo analyse conjugacy``: do the state maps carry the meta-model's dynamics to those of the base models?"""

from pathlib import Path

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder


@click.command()
@on_a_run("conjugacy")
@click.option("--by", required=True, metavar="LABEL", help="the label whose values are the groups")
@click.option("--steps", default="1,5", show_default=True, metavar="K,K", help="numbers of steps")
@click.option(
    "--input",
    "held",
    default=None,
    metavar="NAME",
    help="the constant input for fixed points: token:WORD, mean or zeros [default: the most frequent word, or mean]",
)
@click.option(
    "--examples", type=click.IntRange(min=2), default=256, show_default=True, help="unlabelled inputs, the first ones"
)
@click.option(
    "--starts", type=click.IntRange(min=2), default=40, show_default=True, help="visited states to search from"
)
@click.option("--seed", type=int, default=0, show_default=True, help="of the states that are drawn")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    by: str,
    steps: str,
    held: str | None,
    examples: int,
    starts: int,
    seed: int,
) -> None:
    """Do the state maps carry the meta-model's dynamics to those of the base models? (Appendix C.)

    The residual of F_n(x, V_n h) = V_n F̃(θ, x, h), 1 being as wrong as standing still, at θ_n, at the mean theta of
    the model's group and at those of the other groups. Also: do fixed points and the spectra of Jacobians carry over,
    can V_n be inverted, and do V_m V_n⁺ carry base models onto one another?
    """
    from dynamo.analysis.dynamics.conjugacy import PLACES, conjugacy
    from dynamo.analysis.dynamics.transport import transport
    from dynamo.report import terminal
    from dynamo.report.plots.conjugacy import plot_conjugacy
    from dynamo.system.storage import write_csv

    numbers = [part.strip() for part in steps.split(",")]
    if not all(part.isdigit() for part in numbers):
        raise click.UsageError(f"--steps {steps}: give whole numbers with commas, such as 1,5")
    fit, models = open_run(run, population)
    groups = fit.values_of(by)
    folder = results_folder(run, out, "conjugacy")
    with terminal.progress() as stages:
        tick = stages("following the dynamics", len(models))
        counts = [int(part) for part in numbers]
        found = conjugacy(
            fit, models, groups, steps=counts, held=held, examples=examples, starts=starts, seed=seed, progress=tick
        )
        tick = stages("carrying models to one another", len(models))
        carried = transport(fit, models, groups, examples=examples, progress=tick)
    write_csv(
        folder / "carried.csv",
        ["model", *carried.names],
        [[name, *row] for name, row in zip(carried.names, carried.carried.tolist(), strict=True)],
    )
    columns = ["model", by, "place", *(f"residual_{k}" for k in found.steps), "fixed_points", "speed", "spectra"]
    columns += ["dimension", "rank", "condition", "lost"]
    rows = [
        [
            name,
            group,
            place,
            *found.residual[number, where].tolist(),
            *(float(figure[number, where]) for figure in (found.fixed_points, found.speed, found.spectra)),
            one.dimension,
            one.rank,
            one.condition,
            one.lost,
        ]
        for number, (name, group, one) in enumerate(zip(found.names, found.groups, carried.inverses, strict=True))
        for where, place in enumerate(PLACES)
    ]
    keep(folder, "conjugacy", columns, rows, plot_conjugacy(found, carried))
    click.echo(f"carried  {folder / 'carried.csv'}")
    for number, k in enumerate(found.steps):
        own, centroid, other = found.residual[:, :, number].mean(0)
        click.echo(
            f"{k} step(s): mean residual {own:.3f} at θ_n, {centroid:.3f} at the own centroid, {other:.3f} at the "
            f"others; own below other for {found.ordered[number]:.0%} of the models"
        )
    click.echo(
        f"V_m V_n⁺ leaves unexplained {carried.mean(within=True):.3f} within groups, "
        f"{carried.mean(within=False):.3f} between"
    )

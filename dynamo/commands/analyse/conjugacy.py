"""``dynamo analyse conjugacy``: do the state maps carry the meta-model's dynamics to those of the base models?"""

from typing import Any

import click

from dynamo.commands._shared import (
    AskedRun,
    by_option,
    examples_option,
    input_option,
    keep,
    keep_also,
    on_a_run,
    seed_option,
    starts_option,
)


@click.command()
@on_a_run("conjugacy")
@by_option("the metadata whose values are the groups", required=True)
@click.option("--steps", default="1,5", show_default=True, metavar="K,K", help="numbers of steps")
@input_option(
    None, "the constant input for fixed points: token:WORD, mean or zeros [default: the most frequent word, or mean]"
)
@examples_option(256, "unlabelled inputs, the first ones", least=2)
@starts_option(40, least=2)
@seed_option("the states that are drawn")
def command(run: AskedRun, by: str, steps: str, examples: int, **options: Any) -> None:
    """Do the state maps carry the meta-model's dynamics to those of the base models? (Appendix C.)

    The residual of F_n(x, V_n h) = V_n F̃(θ, x, h), 1 being as wrong as standing still, at θ_n, at the mean theta of
    the model's group and at those of the other groups. Also: do fixed points and the spectra of Jacobians carry over,
    can V_n be inverted, and do V_m V_n⁺ carry base models onto one another? Does model m answer like n where it goes on
    from V_m V_n⁺ h_n in mid-sequence?
    """
    from dynamo.analysis.dynamics.conjugacy import conjugacy
    from dynamo.analysis.dynamics.interchange import interchange
    from dynamo.analysis.dynamics.transport import transport
    from dynamo.report import terminal
    from dynamo.report.plots.conjugacy import plot_conjugacy

    counts = [part.strip() for part in steps.split(",")]
    if not all(part.isdigit() for part in counts):
        raise click.UsageError(f"--steps {steps}: give whole numbers with commas, such as 1,5")
    fit, models = run.fit, run.population
    groups, folder = fit.values_of(by), run.folder
    with terminal.progress() as stages:
        tick = stages("following the dynamics", len(models))
        result = conjugacy(
            fit, models, groups, steps=[int(part) for part in counts], examples=examples, **options, progress=tick
        )
        tick = stages("carrying models to one another", len(models))
        carried = transport(fit, models, groups, examples=examples, progress=tick)
        tick = stages("exchanging states", 1)
        exchanged = interchange(fit, models, groups, examples=examples, seed=options["seed"], progress=tick)
    keep(folder, "conjugacy", result.table(carried, by), plot_conjugacy(result, carried))
    keep_also(folder, "carried", carried.table())
    keep_also(folder, "interchange", exchanged.table())
    click.echo(f"{result.describe()}\n{carried.describe()}\n{exchanged.describe()}")

"""``dynamo analyse fixed-points``: where does a recurrent model stand still?"""

from typing import Any

import click

from dynamo.commands._shared import (
    AskedRun,
    count_option,
    head_option,
    input_option,
    keep,
    on_a_run,
    say_file,
    seed_option,
)


@click.command()
@on_a_run("fixed-points")
@click.option(
    "--at",
    default="mean",
    show_default=True,
    help="a base model, KEY=VALUE for the mean θ of a group, mean, or zero",
)
@click.option("--base", is_flag=True, help="the base model itself instead of its emulator")
@head_option("reads the meta-model")
@input_option("zeros", "the constant input: zeros, mean, or token:WORD")
@count_option("--starts", 1024, "states to start from")
@click.option(
    "--noise", type=click.FloatRange(min=0), default=0.1, show_default=True, help="added to them: standard deviation"
)
@count_option("--sequences", 500, "test inputs that the states are from")
@click.option("--method", default="newton", show_default=True, help="newton, nearest, gradient or lbfgs")
@click.option(
    "--tolerance", type=float, default=1e-12, show_default=True, help="half squared speed below which a point is fixed"
)
@click.option(
    "--slow-tolerance", type=float, default=1e-6, show_default=True, help="the same for points that are called slow"
)
@seed_option("the states that are drawn")
def command(
    run: AskedRun, at: str, base: bool, head: str | None, held: str, sequences: int, starts: int, **options: Any
) -> None:
    """Where does a recurrent model stand still while its input is held, and what does it do nearby?

    For line attractors, where much of a line is nearly fixed: --method nearest --tolerance 1e-6.
    """
    from dynamo.analysis.dynamics.state_space import model_and_data, state_space
    from dynamo.contracts.files import write_bytes
    from dynamo.report import terminal
    from dynamo.report.plots.fixed_points import plot_fixed_points, turning_page

    model, dataset = model_and_data(run.fit, run.population, at, base=base, head=head)
    folder, inputs, tokens = run.folder, dataset.test.inputs[:sequences], dataset.tokens
    with terminal.progress() as stages:
        tick = stages("looking for fixed points", starts)
        result = state_space(model, inputs, held, tokens=tokens, starts=starts, **options, progress=tick)
    points, near = result.points, result.linearisation
    told = points.describe(near)
    if near is None or result.portrait is None:
        click.echo(f"{told}\nnothing is written: try more --starts, --noise, or a larger --slow-tolerance")
        return
    title = f"{'base model' if base else 'meta-model at'} {at}, input held at {held}"
    keep(folder, "fixed-points", points.table(near), plot_fixed_points(result.portrait, points, near, title))
    write_bytes(folder / "fixed-points.html", turning_page(result.portrait, points, near, title).encode())
    say_file("to turn", folder / "fixed-points.html")
    click.echo(told)

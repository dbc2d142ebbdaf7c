"""``dynamo fit``: fit a meta-model to a population and draw the map."""

from pathlib import Path
from typing import Any

import click

from dynamo.commands._options import OptionsCommand
from dynamo.commands._shared import colour_option, distance_option, matching, threads_option


@click.command(cls=OptionsCommand, options="dynamo.training.options:FitOptions")
@click.argument("population", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default=None, help="the run folder [default: POPULATION-run]"
)
@click.option(
    "--preset",
    default="paper",
    show_default=True,
    help="options to start from: paper (Table 1), paper-cnn (Table 2), laptop, laptop-cnn; the flags below override it",
)
@click.option(
    "--where",
    multiple=True,
    metavar="KEY=VALUE",
    help="fit only models with this metadata; again: other values, or other keys",
)
@colour_option("the map")
@distance_option()
@click.option("--resume", is_flag=True, help="go on from the run folder's checkpoint")
@threads_option
@click.option("--devices", type=click.IntRange(min=1), default=None, help="processes on each machine [default: 1]")
@click.option("--nodes", type=click.IntRange(min=1), default=None, help="machines, started by torchrun [default: 1]")
def command(population: Path, options: dict[str, Any], **values: Any) -> None:
    """Fit a meta-model to the base models in the folder POPULATION.

    Leaves a run folder with the fit, the map (map.png, map.svg), embedding.csv, fidelity.csv and history.csv. Ctrl-C
    saves a checkpoint from which --resume goes on.
    """
    from dynamo.fit.fidelity import read_fidelity
    from dynamo.fit.ranks import Ranks
    from dynamo.population.population import Population
    from dynamo.report import terminal
    from dynamo.report.fit_population import fit_population
    from dynamo.training.presets import preset

    chosen = preset(values["preset"], **options)
    out = values["out"] or population.with_name(f"{population.resolve().name}-run")
    ranks = Ranks.plan(values["devices"], values["nodes"])
    drawn = {"colour_by": values["colour_by"], "distance": values["distance"]}
    models = matching(Population.load(population), values["where"])
    with terminal.progress(quiet=bool(ranks.rank)) as stages:  # under torchrun rank 0 alone shows and writes
        fit = fit_population(models, chosen, out, ranks=ranks, resume=values["resume"], **drawn, progress=stages)
    if not ranks.rank:
        terminal.summary(fit, read_fidelity(out), out, drawn["colour_by"], drawn["distance"])

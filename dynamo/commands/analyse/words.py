"""``dynamo analyse words``: do models that read words well do the task well?"""

from typing import Any

import click

from dynamo.commands._shared import (
    AskedRun,
    colour_option,
    count_option,
    head_option,
    keep,
    keep_also,
    on_a_run,
    seed_option,
    starts_option,
)


@click.command()
@on_a_run("words")
@click.option("--positive", default=None, metavar="WORDS", help="with commas; * for any letters [default: Table 3]")
@click.option("--negative", default=None, metavar="WORDS", help="the same")
@click.option("--neutral", default=None, metavar="WORDS", help="the same")
@click.option(
    "--positive-class",
    type=int,
    default=-1,
    show_default=True,
    help="the class that positive words speak for; -1: last",
)
@count_option("--size", 9, "places along each axis", least=2)
@starts_option(20, least=2)
@head_option("is read")
@seed_option("the states and of the permutations")
@colour_option("the models")
def command(
    run: AskedRun,
    positive: str | None,
    negative: str | None,
    neutral: str | None,
    positive_class: int,
    colour_by: str | None,
    **options: Any,
) -> None:
    """Do models that read words well do the task well?

    Equation 8: readouts after single positive, negative and neutral words from a neutral fixed point, over the plane
    of the first two components, against accuracy (Figure 11).
    """
    from dynamo.analysis.dynamics.word_map import word_map
    from dynamo.analysis.dynamics.words import TABLE_3, WordLists, word_list
    from dynamo.report import terminal
    from dynamo.report.plots.words import plot_words

    fit, models, colours = run.fit, run.population, run.colours(colour_by)
    lists = WordLists(
        TABLE_3.positive if positive is None else word_list(positive),
        TABLE_3.negative if negative is None else word_list(negative),
        TABLE_3.neutral if neutral is None else word_list(neutral),
    )
    folder = run.folder
    with terminal.progress() as stages:
        tick = stages("following words", None)
        result = word_map(fit, models, lists, positive=positive_class, **options, progress=tick)
    keep(folder, "words", result.table(), plot_words(result, *colours))
    keep_also(folder, "readouts", result.readouts_table())
    keep_also(folder, "grid", result.grid_table())
    keep_also(folder, "points", result.points_table())
    click.echo(result.describe())

"""``dynamo analyse words``: do models that read words well do the task well?"""

from pathlib import Path

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder


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
@click.option("--size", type=click.IntRange(min=2), default=9, show_default=True, help="places along each axis")
@click.option(
    "--starts", type=click.IntRange(min=2), default=20, show_default=True, help="visited states to search from"
)
@click.option("--head", default=None, help="the head that is read; needed where the models have several")
@click.option("--seed", type=int, default=0, show_default=True, help="of the states and of the permutations")
@click.option("--colour-by", default=None, metavar="LABEL", help="the label that colours the models")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    positive: str | None,
    negative: str | None,
    neutral: str | None,
    positive_class: int,
    size: int,
    starts: int,
    head: str | None,
    seed: int,
    colour_by: str | None,
) -> None:
    """Do models that read words well do the task well?

    Equation 8: readouts after single positive, negative and neutral words from a neutral fixed point, over the plane
    of the first two components, against accuracy (Figure 11).
    """
    from dynamo.analysis.dynamics.word_map import word_map
    from dynamo.analysis.dynamics.words import TABLE_3, WordLists, word_list
    from dynamo.report import terminal
    from dynamo.report.plots.words import plot_words
    from dynamo.report.run import check_key, colouring
    from dynamo.system.storage import write_csv

    fit, models = open_run(run, population)
    check_key(fit.metadata, colour_by)
    lists = WordLists(
        TABLE_3.positive if positive is None else word_list(positive),
        TABLE_3.negative if negative is None else word_list(negative),
        TABLE_3.neutral if neutral is None else word_list(neutral),
    )
    folder = results_folder(run, out, "words")
    with terminal.progress() as stages:
        tick = stages("kicking", None)
        found = word_map(
            fit, models, lists, positive=positive_class, size=size, starts=starts, head=head, seed=seed, progress=tick
        )
    plane = found.landscape
    label = colour_by or colouring(fit.metadata)
    columns = ["model", "task_score", "word_score", "rest", "separation", "base_task_score", "base_word_score"]
    columns += ["base_rest", "base_separation"]
    rows = [
        [
            name,
            float(plane.emulator_scores[number]),
            *_figures(found.emulators[number]),
            float(plane.base_scores[number]),
            *_figures(found.base_models[number]),
        ]
        for number, name in enumerate(fit.names)
    ]
    keep(folder, "words", columns, rows, plot_words(found, label, None if label is None else fit.values_of(label)))
    words = (*found.lists.positive, *found.lists.negative, *found.lists.neutral)
    write_csv(
        folder / "readouts.csv",
        ["model", *words],
        [
            [name, *(one.readouts[word] for word in words)]
            for name, one in zip(fit.names, found.emulators, strict=True)
            if one is not None
        ],
    )
    grid = [
        [*place, float(task), float(word), float(rest)]
        for place, task, word, rest in zip(
            plane.frame.coordinates(plane.thetas).reshape(-1, 2).tolist(),
            plane.scores.ravel(),
            found.scores.ravel(),
            found.rest.ravel(),
            strict=True,
        )
    ]
    write_csv(folder / "grid.csv", ["pc_1", "pc_2", "task_score", "word_score", "rest"], grid)
    click.echo(f"readouts {folder / 'readouts.csv'}\ngrid     {folder / 'grid.csv'}")
    if found.missing:
        click.echo(f"not in the vocabulary: {', '.join(found.missing)}")
    for where, one in (
        ("meta-model at θ_n", found.over_models),
        ("base models", found.over_base_models),
        ("grid", found.over_grid),
    ):
        click.echo(f"word score and task score, {where}: Spearman {one.rho:.2f}, p {one.p:.3f}, {one.count} pairs")


def _figures(one: object) -> list[object]:
    return [getattr(one, figure, None) for figure in ("score", "rest", "separation")]

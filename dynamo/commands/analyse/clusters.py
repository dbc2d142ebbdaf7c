"""``dynamo analyse clusters``: which models lie together, and do they share a label?"""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--by", default=None, metavar="LABEL", help="the label to compare with [default: one is chosen]")
@click.option(
    "--method",
    default="kmeans",
    show_default=True,
    help="kmeans, agglomerative (Ward), complete, average, spectral or hdbscan",
)
@click.option(
    "--clusters",
    default="choose",
    show_default=True,
    metavar="N|choose",
    help="how many; choose tests one cluster and takes the largest silhouette",
)
@click.option(
    "--most",
    type=click.IntRange(min=2),
    default=None,
    help="the largest number that is tried [default: 10 or half of the models]",
)
@click.option(
    "--draws", type=click.IntRange(min=19), default=199, show_default=True, help="draws from one Gaussian, to choose"
)
@click.option(
    "--neighbours", type=click.IntRange(min=1), default=1, show_default=True, help="models that vote for a label"
)
@click.option(
    "--permutations", type=click.IntRange(min=1), default=1000, show_default=True, help="shuffles of the label"
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="of all that is random here")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    default=None,
    help="the folder of the results [default: clusters in RUN]",
)
def command(run: Path, by: str | None, **values: Any) -> None:
    """Cluster the models of RUN and compare the clusters and the map with a label."""
    count = _count(values["clusters"])
    from dynamo.analysis.geometry.agreement import agreement
    from dynamo.analysis.geometry.clusters import find_clusters
    from dynamo.analysis.geometry.partitions import check_method
    from dynamo.analysis.geometry.spectrum import spectrum
    from dynamo.commands._shared import keep, results_folder
    from dynamo.fit.fit import Fit
    from dynamo.report import terminal
    from dynamo.report.plots.clusters import plot_clusters
    from dynamo.report.run import check_key, colouring

    fit = Fit.load(run)
    check_key(fit.metadata, by)
    check_method(values["method"])
    folder = results_folder(run, values["out"], "clusters")
    theta, seed = fit.theta.double().numpy(), values["seed"]
    label = by or colouring(fit.metadata)
    groups = fit.values_of(label) if label is not None else []
    compared = by is not None or 2 <= len({str(group) for group in groups}) < len(groups)
    with terminal.progress() as stages:
        total = values["draws"] if count is None else 1
        tick = stages("clustering", total)
        found = find_clusters(theta, values["method"], count, values["most"], values["draws"], seed=seed, progress=tick)
        tick(total, total)
        told = None
        if compared:
            tick = stages("shuffles and half-samples", None)
            told = agreement(
                theta, groups, found, values["neighbours"], values["permutations"], seed=seed, progress=tick
            )
    title = f"{len(fit.names)} models"
    figure = plot_clusters(found, spectrum(theta), label, groups or None, title)
    if found.evidence is None:
        (folder / "numbers.csv").unlink(missing_ok=True)  # of an earlier call, which chose another number
    else:
        null = found.evidence.null
        rows = zip(
            found.evidence.numbers, map(float, found.evidence.scores), map(float, null.mean(axis=0)), strict=True
        )
        keep(folder, "numbers", ("clusters", "silhouette", "of one Gaussian"), list(rows))
        click.echo(
            f"one cluster: p = {found.evidence.p_value:.3g} (gaps in silhouette against {len(null)} Gaussians)\n"
        )
    columns = ("model", *([label] if label is not None else []), "cluster")
    tables = ([group] for group in groups) if groups else ([] for _ in fit.names)
    numbers = (int(number) + 1 if number >= 0 else "none" for number in found.labels)
    models = [[name, *own, number] for name, own, number in zip(fit.names, tables, numbers, strict=True)]
    keep(folder, "clusters", columns, models, figure)
    if told is not None:
        click.echo(f"\nagreement with {label}")
        measures = [(m.name, m.value, m.low, m.high, m.chance, m.p_value) for m in told.measures]
        keep(folder, "agreement", ("measure", "value", "low", "high", "shuffled", "p"), measures)
        click.echo(f"\ngroups by {label}: mean distances")
        places = [(g.name, g.models, g.spread, g.within, g.between) for g in told.groups]
        keep(folder, "groups", (label or "", "models", "to the centroid", "in the group", "to others"), places)


def _count(text: str) -> int | None:
    """The number of clusters that was asked for; None to choose."""
    if text == "choose":
        return None
    if not text.isdecimal():
        raise click.BadParameter(f"{text!r} is neither a number nor 'choose'", param_hint="--clusters")
    return int(text)

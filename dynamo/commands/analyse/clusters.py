"""``dynamo analyse clusters``: which models lie together, and do they share metadata?"""

from typing import Any

import click

from dynamo.commands._shared import (
    AskedRun,
    by_option,
    count_option,
    distance_option,
    keep,
    on_a_run,
    seed_option,
    without_option,
)


@click.command()
@on_a_run("clusters", models=False)
@by_option("the metadata to compare with [default: one is chosen]")
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
    help="how many; choose gives as many as can be shown",
)
@count_option("--draws", 999, "draws from models along a line, to choose", least=19)
@count_option("--neighbours", 1, "models that vote for a group")
@count_option("--permutations", 1000, "shuffles of the groups")
@distance_option()
@without_option()
@seed_option("all that is random here")
def command(
    run: AskedRun,
    by: str | None,
    method: str,
    clusters: str,
    distance: str | None,
    without: str | None,
    seed: int,
    **options: Any,
) -> None:
    """Cluster the models of RUN and compare the clusters and the map with metadata.

    The models lie as far apart as what their emulators do; `--distance theta` takes the thetas as they are. There is
    more than one cluster where a cut in two explains more than it would of models spread evenly along a line.
    """
    count = _count(clusters)
    from sklearn.metrics import adjusted_rand_score

    from dynamo.analysis.geometry.agreement import agreement, check_groups
    from dynamo.analysis.geometry.clusters import find_clusters
    from dynamo.analysis.geometry.partitions import check_method
    from dynamo.analysis.geometry.spectrum import spectrum_of_distances
    from dynamo.report import terminal
    from dynamo.report.plots.clusters import plot_clusters
    from dynamo.report.run import check_grouping

    (key, values), names = run.colours(by), run.fit.names
    check_method(method)
    if by is not None and values is not None:
        check_grouping(run.fit.metadata, by)
        check_groups(values, options["neighbours"])
    folder, draws = run.folder, options.pop("draws")
    compared = None
    with terminal.progress() as stages:
        apart = run.with_floor(run.fit.distances(distance, progress=stages("running emulators", None)))
        apart = run.without(apart, without)
        points = apart.points
        result = find_clusters(points, method, count, draws=draws, seed=seed, progress=stages("clustering", None))
        if values is not None and (by is not None or 2 <= len(set(map(str, values))) < len(values)):
            tick = stages("shuffles and half-samples", None)
            compared = agreement(points, values, **options, seed=seed, progress=tick)
    click.echo(apart.describe())
    places, title = spectrum_of_distances(apart.matrix), f"{len(names)} models, distances by {apart.kind}"
    figure = plot_clusters(result, places, key, values, title, distance=apart.kind)
    if result.evidence is None:
        (folder / "cuts.csv").unlink(missing_ok=True)  # of an earlier call, which chose another number
    else:
        keep(folder, "cuts", result.evidence.table())
        click.echo(f"{result.evidence.describe()}\n")
    keep(folder, "clusters", result.table(names, key, values), figure)
    if compared is not None and key is not None:
        click.echo(f"\nagreement with {key}: ARI and AMI are those of k-means in as many clusters as groups")
        keep(folder, "agreement", compared.table())
        if result.count > 1:
            assert values is not None
            ari = adjusted_rand_score([str(value) for value in values], result.numbers)
            click.echo(f"the {result.count} clusters above ({method}) have an ARI of {ari:.2f} with {key}")
        click.echo(f"\ngroups by {key}: mean distances")
        keep(folder, "groups", compared.groups_table(key))


def _count(text: str) -> int | None:
    """The number of clusters that was asked for; None to choose."""
    if text == "choose":
        return None
    if not text.isdecimal():
        raise click.BadParameter(f"{text!r} is neither a number nor 'choose'", param_hint="--clusters")
    return int(text)

"""New models on an old map, as tables; see :func:`dynamo.fit.embedding.embed`."""

from dynamo.analysis.arrays import Floats
from dynamo.analysis.table import Table, columns_of, numbered
from dynamo.fit.embedding import Embedding


def summary_table(embedding: Embedding) -> Table:
    """How well each new model is imitated, below which figures it is foreign to the map, and whether it is."""
    columns = ["name", "hidden_r2", "agreement", "least_hidden_r2", "least_agreement", "foreign"]
    models = zip(
        embedding.names,
        embedding.figures.tolist(),
        embedding.limits.tolist(),
        embedding.is_foreign.tolist(),
        strict=True,
    )
    return columns, [[name, *own, *limits, "yes" if foreign else "no"] for name, own, limits, foreign in models]


def embedding_table(embedding: Embedding, coordinates: Floats) -> Table:
    """The summary with every new model's metadata, θ and coordinates.

    Args:
        embedding: the new models.
        coordinates: along the principal components of the map, ``[M, components]``.
    """
    columns, summary = summary_table(embedding)
    placed = embedding.placed
    keys = sorted({key for metadata in placed.metadata for key in metadata})
    axes = [*numbered("theta", placed.theta.shape[1]), *numbered("pc", coordinates.shape[1])]
    models = zip(summary, placed.metadata, placed.theta.tolist(), coordinates.tolist(), strict=True)
    return [*columns, *columns_of(keys, [*columns, *axes]), *axes], [
        [*row, *(metadata.get(key, "") for key in keys), *theta, *own] for row, metadata, theta, own in models
    ]

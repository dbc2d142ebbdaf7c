"""New models on an old map, as tables; see :func:`dynamo.fit.embedding.embed`."""

from collections.abc import Mapping

import numpy as np

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


def embedding_table(embedding: Embedding, coordinates: Mapping[str, Floats]) -> Table:
    """The summary with every new model's metadata, θ and coordinates.

    Args:
        embedding: the new models.
        coordinates: on the map, ``[M, components]``, by the name of the columns: ``pc`` for those along the principal
            components of θ, the kind of distance for principal coordinates.
    """
    columns, summary = summary_table(embedding)
    placed = embedding.placed
    keys = sorted({key for metadata in placed.metadata for key in metadata})
    parts = {"theta": placed.theta.double().numpy(), **coordinates}
    axes = [name for part, own in parts.items() for name in numbered(part, own.shape[1])]
    models = zip(summary, placed.metadata, np.hstack([*parts.values()]).tolist(), strict=True)
    return [*columns, *columns_of(keys, [*columns, *axes]), *axes], [
        [*row, *(metadata.get(key, "") for key in keys), *own] for row, metadata, own in models
    ]

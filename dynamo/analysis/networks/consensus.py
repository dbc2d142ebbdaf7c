"""How far do base models agree among themselves? What the agreement of an imitation with its base model is held to."""

from itertools import combinations

import numpy as np

from dynamo.analysis.arrays import Floats
from dynamo.contracts.errors import DynamoError
from dynamo.fit.fidelity import agreement
from dynamo.population.population import Population
from dynamo.population.recording import run
from dynamo.system.progress import Progress, silent


def consensus(population: Population, *, models: int = 40, examples: int = 512, progress: Progress = silent) -> Floats:
    """The agreement of pairs of base models on test data, ``[pairs]``: the share of decisions that are the same
    (classes), or R² of the outputs (real outputs), as fidelity measures that of an imitation.

    Pairs are those of one data set and one output space.

    Args:
        population: the base models.
        models: the most of them that are compared, spread evenly.
        examples: the most test examples.
        progress: called with (models run, models).

    Raises:
        DynamoError: fewer than two models or no example are asked for.

    Example:
        >>> from dynamo.analysis.networks.consensus import consensus
        >>> bool((consensus(population) <= 1).all())
        True
    """
    if models < 2 or examples < 1:
        raise DynamoError("agreement among base models needs at least 2 models and 1 example")
    numbers = np.unique(np.linspace(0, len(population) - 1, min(models, len(population))).round().astype(int))
    chosen, ran = [population[int(number)] for number in numbers], []
    for done, base in enumerate(chosen, start=1):
        test = population.dataset(base).test.inputs[:examples]
        ran.append(base.trajectories.held_out[:examples] if base.is_recording else run(base.model, test))
        progress(done, len(chosen))
    pairs = [
        agreement(ran[one], ran[other], chosen[one].outputs)
        for one, other in combinations(range(len(chosen)), 2)
        if chosen[one].outputs == chosen[other].outputs
        and chosen[one].outputs.kind != "none"
        and population.dataset(chosen[one]) is population.dataset(chosen[other])
    ]
    found = np.array(pairs, dtype=np.float64)
    return found[np.isfinite(found)]

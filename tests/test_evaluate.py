import numpy as np
import pytest

import problems
from dynamo import DynamoError
from dynamo.analysis.networks.evaluate import METRICS, outputs_at, scores_at
from dynamo.population.scores import task_loss, task_score


@pytest.fixture(scope="module")
def fit_and_population():
    return problems.fitted()


@pytest.mark.parametrize("batch_size", [7, 24, 4096])
def test_many_thetas_at_once_give_what_each_gives_alone(fit_and_population, batch_size):
    fit, population = fit_and_population
    test = population.dataset(population[0]).test
    found = outputs_at(fit, fit.theta.numpy(), test, batch_size=batch_size)
    for theta, outputs in zip(fit.theta, found, strict=True):
        alone = fit.model_at(theta)(test.inputs.values, test.inputs.mask)
        np.testing.assert_allclose(outputs, alone.detach(), atol=1e-6)
    assert not np.allclose(found[0], found[1], atol=1e-4)


def test_a_score_is_the_metric_of_the_model_there(fit_and_population):
    fit, population = fit_and_population
    test = population.dataset(population[0]).test
    for name, metric in (("score", task_score), ("loss", task_loss)):
        alone = fit.model_at(fit.theta[1])(test.inputs.values, test.inputs.mask).detach()
        wanted = float(metric(alone, test.targets, test.inputs.mask, population[0].model.outputs))
        assert scores_at(fit, fit.theta.numpy(), test, metric=name)[1] == pytest.approx(wanted, abs=1e-6)
    assert set(METRICS) == {"score", "loss"}


def test_errors(fit_and_population):
    fit, population = fit_and_population
    test = population.dataset(population[0]).test
    with pytest.raises(DynamoError, match="did you mean 'score'"):
        scores_at(fit, fit.theta.numpy(), test, metric="scor")
    with pytest.raises(DynamoError, match="shape"):
        outputs_at(fit, np.zeros((2, 7)), test)
    real = problems.dataset(kind="real").test
    with pytest.raises(DynamoError, match="the metric is not defined"):
        scores_at(fit, fit.theta.numpy(), real)

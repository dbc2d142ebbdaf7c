"""A fit may end when its loss no longer falls."""

import attrs
import numpy as np
import pytest
import torch

import problems
from command_line import dynamo
from dynamo import Fit, FitOptions, Ranks, Trainer, fit_population
from dynamo.contracts.errors import Interrupted
from dynamo.training.convergence import EVERY, FIRST, converged_at, has_converged, last_step, latest_start
from dynamo.training.optimisation import cosine_7_32

OPTIONS = FitOptions(
    meta_model="gru:hidden_size=6,embedding_size=3", theta_dim=3, models_per_step=None, batch_size=24, steps=2000,
    learning_rate=1e-1, until="converged",
)  # fmt: skip


def test_a_straight_line_has_converged_where_its_slope_says():
    for slope, answer in ((0.021, False), (0.019, True)):  # the mean of a quarter is a fourth of the slope lower
        line = 1 - slope * np.linspace(0, 1, 2001)[1:]
        line[:FIRST] = 1.0
        assert has_converged(line.tolist()) == answer
    assert not has_converged([1.0] * (4 * EVERY - 1))
    assert has_converged([1.0] * (4 * EVERY))
    assert converged_at([1.0] * 1000) == 4 * EVERY
    assert converged_at([1 - step / 1000 for step in range(1000)]) is None


@pytest.mark.parametrize("most", [1, 2, 10, 700, 1001])
def test_a_fit_that_does_not_converge_ends_with_all_steps(most):
    assert 0 <= latest_start(most) < most
    assert last_step(latest_start(most)) <= most


@pytest.fixture(scope="module")
def whole():
    trainer = Trainer(problems.population(2), OPTIONS)
    trainer.run()
    return trainer


def test_the_rate_stays_until_then_and_is_annealed_after(whole):
    losses, rates = ([row[column] for row in whole.history] for column in (2, 1))
    start = converged_at(losses[: latest_start(OPTIONS.steps) - 1])
    assert start is not None
    assert whole.step == whole.steps == len(losses) == last_step(start) < OPTIONS.steps
    assert rates[:start] == [OPTIONS.learning_rate] * start
    tail = [OPTIONS.learning_rate * cosine_7_32(step, len(losses) - start) for step in range(len(losses) - start)]
    np.testing.assert_allclose(rates[start:], tail)


@pytest.mark.parametrize("stop", [50, "tail"])
def test_a_fit_that_goes_on_ends_where_it_would_have(whole, stop, tmp_path):
    stop = whole.step - 10 if stop == "tail" else stop

    def halt(step, steps, loss):
        if step == stop:
            raise KeyboardInterrupt

    options = attrs.evolve(OPTIONS, checkpoint_every=10)
    trainer = Trainer(problems.population(2), options)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        trainer.run(tmp_path / "checkpoint.pt", progress=halt)
    again = Trainer(problems.population(2), options)
    again.resume(tmp_path / "checkpoint.pt")
    again.run()
    assert again.step == whole.step
    assert torch.equal(Fit.of(again).theta, Fit.of(whole).theta)


def test_ranks_end_together(whole):
    two = fit_population(problems.population(2), OPTIONS, ranks=Ranks(2))
    assert abs(len(two.history) - whole.step) <= EVERY  # rounding may move it by a look


def test_the_command_says_how_it_ended(tmp_path, capsys):
    problems.population(2).save(tmp_path / "models")
    given = ["--meta-model", "gru:hidden_size=4", "--until", "converged", "--learning-rate", "1e-1", "--batch-size", 16]
    each = ["--models-per-step", 2, "--out"]
    assert dynamo("fit", tmp_path / "models", *given, "--steps", 2000, *each, tmp_path / "run") == 0
    told = capsys.readouterr().out
    steps = len(Fit.load(tmp_path / "run").history)
    assert f"steps {steps} (converged after " in told
    assert dynamo("fit", tmp_path / "models", *given, "--steps", 20, *each, tmp_path / "short") == 0
    assert "steps 20 (not converged after 16, then annealed)" in capsys.readouterr().out

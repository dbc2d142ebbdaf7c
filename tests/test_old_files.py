"""Files that version 0.1 wrote before metadata had that name: a population, its run, and a fit half-way."""

import shutil
from pathlib import Path

import pytest
import torch

from dynamo import Fit, Population, fit_population, measure_fidelity, preset
from dynamo.fit.fidelity import read_fidelity
from dynamo.population.scores import score

OLD = Path(__file__).parent / "data" / "before-wings"
LABELS = {"architecture": "gru", "task": "digits", "fraction": 1.0, "seed": 0, "score": 0.1381, "origin": "here"}


def test_an_old_population_opens_and_scores_as_it_did():
    population = Population.load(OLD / "population")
    assert [base.name for base in population] == ["digits-gru-100-s0", "digits-rnn-100-s0"]
    assert population[0].metadata == LABELS
    for base in population:
        assert score(base.model, population.dataset(base).test) == pytest.approx(base.metadata["score"], abs=1e-4)


def test_an_old_run_opens_and_is_as_faithful_as_it_was():
    fit = Fit.load(OLD / "run")
    assert fit.metadata[0] == LABELS
    population = fit.open_population(OLD / "population")
    then, now = read_fidelity(OLD / "run"), measure_fidelity(fit, population)
    for old, new in zip(then.models, now.models, strict=True):
        assert new.name == old.name
        for figure in ("hidden_r2", "output_divergence", "agreement", "base_score", "emulator_score"):
            assert getattr(new, figure) == pytest.approx(getattr(old, figure), rel=1e-4, abs=1e-6), figure


def test_an_old_checkpoint_goes_on_to_the_same_fit(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(OLD / "checkpoint.pt", run / "checkpoint.pt")
    small = {"meta_model": "gru:hidden_size=8,embedding_size=8", "theta_dim": 2, "steps": 6, "checkpoint_every": 3}
    fit = fit_population(Population.load(OLD / "population"), preset("laptop", **small), run, resume=True)
    finished = Fit.load(OLD / "run")
    assert len(fit.history) == 6
    torch.testing.assert_close(fit.theta, finished.theta, rtol=1e-3, atol=1e-5)
    assert not (run / "checkpoint.pt").exists()

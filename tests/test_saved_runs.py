"""Run folders: one fit each, whole or told as what it is, also where it was stopped before it was measured."""

import attrs
import pytest

from command_line import dynamo
from dynamo import DynamoError, Fit, FitOptions, Population, Ranks, fit_population, measure_fidelity
from dynamo.contracts.errors import Interrupted
from dynamo.fit.fidelity import Fidelity, ModelFidelity, is_measured, read_fidelity, write_fidelity
from dynamo.report import terminal
from problems import base_model, fitted, population

OPTIONS = FitOptions(meta_model="gru:hidden_size=4,embedding_size=3", theta_dim=2, models_per_step=None, steps=2)


def test_a_fit_is_never_mixed_with_another_one(tmp_path):
    fit, models = fitted()
    fit.save(tmp_path)
    write_fidelity(measure_fidelity(fit, models), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DynamoError, match="holds a run already: choose another folder"):
        fitted(steps=4)[0].save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "run.toml").unlink()
    (tmp_path / "embedding.csv").write_text("name\nold\n")
    fit.save(tmp_path)  # what is left of a run is no run
    assert not is_measured(tmp_path)
    assert not (tmp_path / "embedding.csv").exists()


def test_a_fit_that_was_saved_alone_is_shown_and_its_fidelity_said_to_be_unknown(tmp_path, capsys):
    fitted()[0].save(tmp_path / "run")
    assert dynamo("show", tmp_path / "run") == 0
    told = capsys.readouterr().out
    assert f"fidelity not measured: `dynamo fit POPULATION --out {tmp_path / 'run'} --resume` measures it" in told
    assert "map.png" not in told
    with pytest.raises(DynamoError, match="has not been measured: `dynamo fit POPULATION"):
        read_fidelity(tmp_path / "run")
    (tmp_path / "run" / "fidelity.csv").write_text("name\n")  # of who knows what
    with pytest.raises(DynamoError, match="has not been measured"):
        read_fidelity(tmp_path / "run")


def test_folders_that_are_no_runs_are_told_as_what_they_are(tmp_path):
    (tmp_path / "population.toml").write_text("")
    for make, message in (
        (lambda: None, "it is a population: make a run of it"),
        (lambda: (tmp_path / "population.toml").unlink(), "the folder has no run.toml"),
        (lambda: (tmp_path / "checkpoint.pt").touch(), "its fit is not finished: go on with `dynamo fit --resume`"),
    ):
        make()
        with pytest.raises(DynamoError, match=message):
            Fit.load(tmp_path)
    with pytest.raises(DynamoError, match="it is not there"):
        Fit.load(tmp_path / "nowhere")
    with pytest.raises(DynamoError, match="it is a file"):
        Fit.load(tmp_path / "checkpoint.pt")


def test_a_run_that_was_stopped_while_it_was_measured_is_finished_by_resume(tmp_path, monkeypatch):
    run, models = tmp_path / "run", population()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dynamo.fit.job.measure_fidelity", interrupted)
        with pytest.raises(Interrupted, match=r"the fit is saved in .*: --resume measures and draws it"):
            fit_population(models, OPTIONS, run)
    saved = Fit.load(run).theta
    others = Population([base_model(base.name, base.data, hidden=3 + n, seed=9) for n, base in enumerate(models)])
    with pytest.raises(DynamoError, match="has a fit that is neither measured nor drawn yet: add --resume"):
        fit_population(models, OPTIONS, run)
    with pytest.raises(DynamoError, match="other weights than those that this run was fitted to"):
        fit_population(others, OPTIONS, run, resume=True)
    launched = fit_population(models, OPTIONS, run, ranks=Ranks(2, 1, 1, 1), resume=True)  # it would wait for ever
    assert launched.theta.equal(saved)
    assert not is_measured(run)
    assert fit_population(models, OPTIONS, run, resume=True).theta.equal(saved)
    assert is_measured(run)
    assert (run / "map.svg").exists()
    with pytest.raises(DynamoError, match="holds a finished run already"):
        fit_population(models, OPTIONS, run, resume=True)


def test_what_is_imitated_poorly_is_said(tmp_path, capsys):
    fit, nan = fitted()[0], float("nan")
    good, undefined = ModelFidelity("good", 0.9, 0.1, 0.9, 0.8, 0.8), ModelFidelity("flat", nan, 0.1, 0.9, nan, nan)
    terminal.summary(fit, Fidelity((good, undefined)), tmp_path, None)
    told = capsys.readouterr().out
    assert "warning" not in told
    assert "hidden R² 0.900" in told  # the mean of those for which it is defined
    poor = [
        attrs.evolve(good, name="states", hidden_r2=0.55),
        attrs.evolve(good, name="decisions", agreement=0.6),
        attrs.evolve(good, name="task", emulator_score=0.68),
        ModelFidelity("broken", nan, nan, nan, nan, nan),
    ]
    terminal.summary(fit, Fidelity((good, undefined, *poor)), tmp_path, None)
    told = capsys.readouterr().out
    assert "warning: NaN or infinite states or outputs on the test data of broken:" in told
    assert "warning: 3 of 6 models are imitated poorly (hidden R² below 0.6, agreement below 0.7, or a score" in told
    assert "states (hidden R² 0.550, agreement 0.900, score 0.800 → 0.800), decisions" in told
    assert "good (" not in told
    terminal.fidelity_table(Fidelity((undefined,)))
    assert capsys.readouterr().out.split().count("undefined") == 3

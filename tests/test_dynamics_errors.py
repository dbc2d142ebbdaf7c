"""Bad input to the analyses of dynamics: one clear line and exit 2 from the command line, a DynamoError from Python."""

import numpy as np
import pytest
import torch

import dynamics_problems as known
import problems
from dynamo import DynamoError, Fit, FitOptions, Inputs, Population, Trainer
from dynamo.analysis.dynamics.conjugacy import residual
from dynamo.analysis.dynamics.fixed_points import find_fixed_points
from dynamo.analysis.dynamics.linearisation import linearise
from dynamo.analysis.dynamics.portrait import portrait
from dynamo.analysis.dynamics.slow_points import nearly_fixed, slow_points
from dynamo.analysis.dynamics.words import WordLists, word_score
from dynamo.cli import main
from dynamo.contracts.spaces import InputSpace, OutputSpace

ZERO = torch.zeros(2)
OVERFLOWING = Inputs(torch.zeros(3, 9, 2), torch.ones(3, 9, dtype=torch.bool))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A run of two small networks for images, which have no step()."""
    folder = tmp_path_factory.mktemp("images")
    data = "digits:train_size=60,test_size=20"
    train = ["train", str(folder / "p"), "-a", "cifar-resnet:depth=8,width=4", "-d", data, "--seeds", "2"]
    main([*train, "--epochs", "1"])
    fit = ["fit", str(folder / "p"), "-o", str(folder / "run"), "--preset", "laptop-cnn", "--steps", "2"]
    main([*fit, "--meta-model", "resnet:layers=1+1+1,width=4", "--batch-size", "8", "--theta-dim", "2"])
    return folder / "run"


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A run of two small GRUs that read sentences."""
    folder = tmp_path_factory.mktemp("sentences")
    data = "synthetic-sentiment:train_size=60,test_size=20,max_length=6"
    main(["train", str(folder / "p"), "-a", "gru:hidden_size=4,embedding_size=4", "-d", data, "-f", "1", "-f", "0.5"])
    fit = ["fit", str(folder / "p"), "-o", str(folder / "run"), "--preset", "laptop", "--steps", "2"]
    fit += ["--learning-rate", "3e-3"]  # with which no state of the gradient's descent is fixed to the last bit
    main([*fit, "--meta-model", "gru:hidden_size=6,embedding_size=4", "--theta-dim", "2", "--batch-size", "8"])
    return folder / "run"


def refused(run, capsys, name, *options):
    """The last line that a command says when it refuses; it leaves nothing behind."""
    folder = run / f"refused-{name}"
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["analyse", name, str(run), "-o", str(folder), *options])
    *before, said = capsys.readouterr().err.strip().splitlines()
    assert not any("rror" in line or "Traceback" in line for line in before)
    assert stop.value.code == 2
    assert not folder.exists() or not any(folder.iterdir())
    return said


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fixed-points", ["--at", "mean"]),
        ("fixed-points", ["--at", "digits-cifar-resnet-100-s0", "--base"]),
        ("attractors", ["--at", "all"]),
        ("words", []),
        ("conjugacy", ["--by", "seed"]),
    ],
)
def test_models_without_a_step_are_refused_with_those_that_have_one(images, capsys, name, options):
    said = refused(images, capsys, name, *options)
    assert "has no step() and so no fixed points" in said
    assert "gru, rnn, lstm" in said


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fixed-points", ["--head", "nobody"], "no head is called 'nobody'"),
        ("attractors", ["--at", "all", "--head", "nobody"], "no head is called 'nobody'"),
        ("words", ["--head", "nobody"], "no head is called 'nobody'"),
        ("words", ["--positive", ""], "none of the positive words (none given)"),
        ("words", ["--positive", "positive*", "--negative", ","], "none of the negative words (none given)"),
        ("words", ["--positive", "splendid"], "none of the positive words (splendid)"),
        ("attractors", ["--at", "all", "--input", "token:positiv1"], "near to it are positive1"),
        ("conjugacy", ["--by", "fraction", "--input", "token:xyz"], "words has no 'xyz'"),
        ("fixed-points", ["--input", "token:"], "words has no ''"),
        ("attractors", ["--at", "all", "--slow", "neares"], "did you mean 'nearest'"),
        ("fixed-points", ["--tolerance", "nan"], "must be above 0"),
        ("fixed-points", ["--noise", "inf"], "NaN or infinite"),
    ],
)
def test_what_the_commands_refuse(sentences, capsys, name, options, message):
    said = refused(sentences, capsys, name, *options)
    assert message in said


@pytest.mark.parametrize("name", ["fixed-points", "attractors", "words", "conjugacy"])
def test_no_starts_are_refused(sentences, capsys, name):
    more = {"attractors": ["--at", "all"], "conjugacy": ["--by", "fraction"]}.get(name, [])
    assert "'--starts'" in refused(sentences, capsys, name, *more, "--starts", "0")


def test_one_start_is_enough_and_where_none_converges_nothing_is_written(sentences, tmp_path, capsys):
    arguments = ["analyse", "fixed-points", str(sentences), "--starts", "1", "--noise", "0"]
    main([*arguments, "-o", str(tmp_path / "one")])
    assert len((tmp_path / "one" / "fixed-points.csv").read_text().splitlines()) == 2
    none = ["--method", "gradient", "--tolerance", "1e-300", "--slow-tolerance", "1e-299"]
    main([*arguments, "-o", str(tmp_path / "none"), *none])
    said = capsys.readouterr().out
    assert "fixed points: 0; slow points: 0; 1 of 1 starts led to no point" in said
    assert "nothing is written" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: slow_points(model, ZERO, OVERFLOWING, starts=5),
        lambda model: nearly_fixed(model, ZERO, OVERFLOWING, starts=5),
        lambda model: portrait(model, ZERO, OVERFLOWING),
        lambda model: residual(model, torch.nn.Identity(), model, inputs=OVERFLOWING),
    ],
)
def test_states_that_overflow_are_told(ask):
    with pytest.raises(DynamoError, match="states are NaN or infinite on these inputs"):
        ask(known.Explosion(2))
    with pytest.raises(DynamoError, match="the Jacobian is not finite"):
        linearise(known.Explosion(2), ZERO, np.full((1, 2), 30.0))


@pytest.mark.parametrize("ask", [find_fixed_points, linearise])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3), r"got \[3\]"),
        (torch.zeros(1, 2), r"got \[1, 2\]"),
        (0.0, r"got \[\]"),
        ([0.0, float("nan")], "NaN or infinite"),
        (["a", "b"], "of numbers, not list"),
    ],
)
def test_a_constant_input_of_the_wrong_shape(ask, x, message):
    with pytest.raises(DynamoError, match=message):
        ask(known.Cube(2), x, torch.zeros(1, 2))


def test_readouts_that_overflow_after_a_word():
    class Loud(known.Iterated):
        def __init__(self):
            super().__init__(1, 1)
            self.inputs, self.outputs = InputSpace("tokens", (3,)), OutputSpace("real", 1, "every")

        def encode(self, values):
            return values[..., None].float()

        def step(self, x, h):
            return h + x / (2 - x)

    lists = WordLists(("good",), ("bad",), ("the",))
    with pytest.raises(DynamoError, match="the readout after 'the' is NaN or infinite"):
        word_score(Loud(), torch.zeros(1, 1), ("good", "bad", "the"), lists=lists)


def test_a_search_that_fails_returns_no_points():
    """From where nothing is fixed and everything overflows, all methods come back with nothing."""
    for method in ("newton", "nearest", "gradient", "lbfgs"):
        found = find_fixed_points(
            known.Explosion(2), ZERO, known.scattered(6, 2, scale=3), method=method, iterations=50
        )
        assert len(found) == 0
        assert found.unconverged == 6
        assert found.ends.tolist() == [-1] * 6
        assert found.is_fixed.dtype == torch.bool


def test_a_fit_to_a_model_of_another_width_of_heads_is_not_guessed_at():
    one, other = problems.dataset(classes=2, group="two"), problems.dataset(classes=3, group="three")
    models = Population([problems.base_model("a", one), problems.base_model("b", other)])
    options = FitOptions(meta_model="gru:hidden_size=4", theta_dim=2, steps=1, batch_size=4)
    fit = Fit.of(Trainer(models, options))
    with pytest.raises(DynamoError, match="several heads"):
        fit.model_at(fit.theta[0])

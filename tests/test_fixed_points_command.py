"""``dynamo analyse fixed-points``."""

import subprocess
import sys

import pytest
import torch

import dynamics_problems as known
from dynamo.analysis.dynamics.fixed_points import find_fixed_points
from dynamo.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flip")
    train = ["train", str(folder / "pop"), "-a", "gru:hidden_size=6", "-a", "rnn:hidden_size=5", "--seeds", "1"]
    train += ["-d", "flip-flop:bits=2,steps=8,train_size=64,test_size=20", "--epochs", "1", "--threads", "1"]
    main(train)
    fit = ["fit", str(folder / "pop"), "-o", str(folder / "run"), "--meta-model", "gru:hidden_size=8", "--steps", "2"]
    main([*fit, "--theta-dim", "2", "--threads", "1"])
    return folder / "run"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--at", "flip-flop-gru-100-s0", "--base"], "fixed points: 1 (1 of them stable); slow points: 0\n"),
        (
            ["--at", "architecture=rnn", "--input", "mean", "--method", "nearest", "--tolerance", "1e-6"],
            "; slow points: 0\n",
        ),
    ],
)
def test_the_command(run, tmp_path, capsys, options, said):
    main(["analyse", "fixed-points", str(run), "-o", str(tmp_path), "--starts", "30", "--seed", "1", *options])
    assert said in capsys.readouterr().out
    rows = (tmp_path / "fixed-points.csv").read_text().splitlines()
    assert rows[0].startswith("point,kind,q,starts,outlier,stable,unstable directions,time constant,modulus 1")
    assert rows[1].startswith("0,fixed,")
    assert sum(int(row.split(",")[3]) for row in rows[1:]) == 30
    assert (tmp_path / "fixed-points.png").stat().st_size > 10_000
    page = (tmp_path / "fixed-points.html").read_text()
    assert "$content" not in page
    assert '"kinds": [{"name": "stable"' in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", "nobody"], "no base model is called 'nobody'"),
        (["--at", "mean", "--base"], "--base needs --at with a base model's name"),
        (["--input", "ones"], "no constant input is called 'ones'"),
        (["--input", "token:good"], "0 words has no 'good'"),
        (["--method", "secant"], "no method is called 'secant'"),
    ],
)
def test_errors_of_the_command(run, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        main(["analyse", "fixed-points", str(run), "-o", str(tmp_path), "--starts", "5", *options])
    assert message in capsys.readouterr().err


def test_what_is_said_of_outliers_and_of_starts_that_led_nowhere():
    nothing = find_fixed_points(known.Explosion(2), torch.zeros(2), torch.tensor([[0.1, 0.1], [1e3, 0]]))
    assert nothing.describe() == (
        "fixed points: 0; slow points: 0; 2 of 2 starts led to no point, 1 of them to numbers that overflow"
    )
    found = find_fixed_points(
        known.Cube(2), torch.zeros(2), known.scattered(300, 2), visited=0.1 * known.scattered(50, 2).clamp(-1, 1)
    )
    assert found.describe().startswith("fixed points: 1; slow points: 0; 8 more far outside")


def test_help_is_light():
    code = (
        "import sys; from dynamo.cli import main\n"
        "main(['analyse', 'fixed-points', '--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'sklearn', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

"""The commands that look at the dynamics over the map, on one small run over sentences."""

import csv

import pytest

from command_line import dynamo
from dynamo.analysis.dynamics.conjugacy import PLACES
from dynamo.cli import main

WORDS = ["--positive", "positive*", "--negative", "negative*", "--neutral", "neutral*,the"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four small GRUs, trained on two shares of the data, and a fit of a few steps."""
    folder = tmp_path_factory.mktemp("dynamics")
    data = "synthetic-sentiment:train_size=80,test_size=20,max_length=8"
    train = ["train", str(folder / "p"), "-a", "gru:hidden_size=4,embedding_size=4", "-d", data, "-f", "1", "-f", "0.5"]
    main([*train, "--seeds", "2", "--epochs", "1", "--learning-rate", "0.05"])
    fit = ["fit", str(folder / "p"), "-o", str(folder / "run"), "--preset", "laptop", "--steps", "10"]
    main([*fit, "--meta-model", "gru:hidden_size=6,embedding_size=4", "--theta-dim", "3"])
    return folder / "run"


def rows(path):
    return list(csv.DictReader(path.open()))


def test_attractors_between_two_groups(run, capsys):
    main(
        [
            "analyse",
            "attractors",
            str(run),
            "--between",
            "fraction=1",
            "fraction=0.5",
            "--points",
            "3",
            "--starts",
            "10",
        ]
    )
    found = rows(run / "attractors" / "attractors.csv")
    assert [row["place"] for row in found] == ["fraction=1", "0.5", "fraction=0.5"]
    assert all(int(row["stable"]) >= 1 for row in found)
    for name in ("attractors.png", "attractors.svg", "points.png"):
        assert (run / "attractors" / name).exists()


def test_attractors_of_all_models(run, capsys, tmp_path):
    main(["analyse", "attractors", str(run), "--by", "fraction", "--starts", "10", "-o", str(tmp_path)])
    assert len(rows(tmp_path / "attractors.csv")) == 6
    assert "mean chamfer distance" in capsys.readouterr().out
    assert (tmp_path / "attractors.png").exists()


def test_attractors_at_one_place(run, capsys, tmp_path):
    main(["analyse", "attractors", str(run), "--at", "all", "--starts", "10", "--input", "mean", "-o", str(tmp_path)])
    assert [row["place"] for row in rows(tmp_path / "attractors.csv")] == ["all"]


def test_conjugacy(run, capsys):
    main(["analyse", "conjugacy", str(run), "--by", "fraction", "--steps", "1,3", "--starts", "4"])
    out = capsys.readouterr().out
    assert "3 step(s): mean residual" in out
    assert "V_m V_n⁺ leaves unexplained" in out
    found = rows(run / "conjugacy" / "conjugacy.csv")
    assert [row["place"] for row in found] == list(PLACES) * 4
    assert all(float(row["residual_3"]) > 0 for row in found)
    assert (run / "conjugacy" / "conjugacy.png").exists()
    assert "put into another model in mid-sequence, it answers like the first:" in out
    assert len(rows(run / "conjugacy" / "carried.csv")) == 4
    exchanged = rows(run / "conjugacy" / "interchange.csv")
    assert len(exchanged) == 12
    assert all(0 <= float(row[state]) <= 1 for row in exchanged for state in ("own", "carried", "fitted"))


def test_words(run, capsys):
    main(["analyse", "words", str(run), *WORDS, "--size", "3", "--starts", "4"])
    out = capsys.readouterr().out
    assert "not in the vocabulary: the" in out
    assert "grid: Spearman" in out
    found = rows(run / "words" / "words.csv")
    assert len(found) == 4
    assert all(0 <= float(row["base_separation"]) <= 1 for row in found)
    assert len(rows(run / "words" / "grid.csv")) == 9
    assert len(rows(run / "words" / "readouts.csv")) == 4
    points = rows(run / "words" / "points.csv")
    assert {row["of"] for row in points} == {"meta-model", "base model", "grid"}
    assert len(points) == 4 + 4 + 9
    assert all(float(row["speed"]) >= 0 and row["h_1"] for row in points)
    assert (run / "words" / "words.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attractors", "--points", "3"], "give one of --between A B, --by KEY and --at PLACE"),
        (["attractors", "--at", "all", "--by", "fraction"], "give one of"),
        (["attractors", "--between", "fraction=1", "fraction=3"], "no model has fraction=3"),
        (["attractors", "--at", "all", "--input", "zero"], "did you mean 'zeros'"),
        (["conjugacy", "--by", "fractio"], "did you mean 'fraction'"),
        (["conjugacy", "--by", "fraction", "--steps", "1;2"], "give whole numbers with commas"),
        (["conjugacy", "--by", "fraction", "--steps", "50"], "give whole numbers from 1 to"),
        (["words"], "none of the positive words"),
        (["words", *WORDS, "--positive-class", "2"], "there is no class 2"),
        (["words", *WORDS, "--colour-by", "fractio"], "did you mean 'fraction'"),
    ],
)
def test_mistakes_are_told(run, capsys, arguments, message):
    name, *others = arguments
    with pytest.raises(SystemExit):
        main(["analyse", name, str(run), *others])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare", "conjugacy", "order"])
def test_what_is_required_is_asked_for(command, capsys):
    assert dynamo("analyse", command, "anything") == 2
    assert "Missing option '--by'" in capsys.readouterr().err

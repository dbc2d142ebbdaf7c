import csv
import warnings

import attrs
import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

import problems
from dynamo import DynamoError, Fit, Population
from dynamo.analysis.rivals import RIVALS, distance_matrix
from dynamo.analysis.rivals import compare as module
from dynamo.analysis.rivals.compare import FEW, TWICE, Comparison, MethodResult, common_recordings, compare, expected
from dynamo.analysis.rivals.pairs import CLUSTERERS, pair_figures
from dynamo.cli import main
from dynamo.commands._shared import AskedRun
from dynamo.contracts.errors import DynamoWarning
from dynamo.fit.distances import NoiseFloor
from dynamo.report.plots.compare import plot_compare

KINDS = ["a", "a", "a", "b", "b", "b"]


def records(table):
    columns, rows = table
    return [dict(zip(columns, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def fitted() -> tuple[Fit, Population]:
    fit, population = problems.fitted(count=6)
    return attrs.evolve(fit, metadata=[{"kind": kind, "number": n} for n, kind in enumerate(KINDS)]), population


def test_each_method_is_judged_by_its_own_distances(fitted):
    fit, population = fitted
    found = compare(fit, population, "kind", methods=["cka", "output-disagreement"], examples=10, distance="theta")
    dynamo, cka, outputs = found.methods
    assert [dynamo.name, cka.name, outputs.name] == ["dynamo", "cka", "output-disagreement"]
    np.testing.assert_allclose(dynamo.distances, squareform(pdist(fit.theta.numpy())), atol=1e-5)
    recordings = common_recordings(population, 10)
    np.testing.assert_array_equal(cka.distances, distance_matrix("cka", recordings, examples=None))
    for method in found.methods:
        assert method.reason == ""
        assert method.figures == pair_figures(method.distances, KINDS)
        assert method.layout.coordinates.shape == (6, 2)
    assert dynamo.figures != cka.figures
    assert found.values == KINDS
    assert found.fit_seconds == fit.seconds > 0


def test_times_and_their_growth(fitted):
    fit, population = fitted
    dynamo, cka = compare(fit, population, "kind", methods=["cka"], examples=10).methods
    assert (dynamo.seconds, dynamo.cpu_seconds, dynamo.growth, dynamo.exponent) == (None, None, (), None)
    assert [models for models, _ in cka.growth] == [3, 6]  # a quarter of six is one model, which has no pairs
    assert cka.growth[-1] == (6, cka.seconds)
    assert cka.seconds > 0
    assert cka.cpu_seconds > 0
    assert MethodResult("any", growth=((2, 0.4), (4, 1.6), (8, 6.4))).exponent == pytest.approx(2)
    assert MethodResult("any", growth=((8, 6.4),)).exponent is None
    assert MethodResult("any", growth=((4, 0.009), (8, 6.4))).exponent is None


def test_the_time_of_many_models_is_told_beforehand(fitted, monkeypatch):
    fit, population = fitted
    asked = []
    monkeypatch.setattr(module, "_seconds", lambda distances, models: asked.append(models) or 6.0 * models**2)
    monkeypatch.setattr(module, "MANY", 5)
    with pytest.warns(DynamoWarning, match=r"6 models have 15 pairs, .* some 7 minutes \(cka 3.6, rsa 3.6\)"):
        found = compare(fit, population, "kind", methods=["cka", "rsa"], examples=10)
    assert asked == [FEW, TWICE, FEW, TWICE]
    assert [[models for models, _ in method.growth] for method in found.methods] == [[], [6], [6]]  # 6/16 and 6/4 < 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(module, "LONG", 1e6)
        compare(fit, population, "kind", methods=["cka"], examples=10)
        monkeypatch.setattr(module, "MANY", 6)
        monkeypatch.setattr(module, "LONG", 0.0)
        compare(fit, population, "kind", methods=["cka"], examples=10)
    assert asked == [FEW, TWICE] * 3


@pytest.mark.parametrize(("each", "pair"), [(2.0, 0.5), (0.0, 1.0), (3.0, 0.0)])
def test_the_expected_time_has_a_part_for_models_and_one_for_pairs(each, pair):
    def seconds(models):
        return each * models + pair * models * (models - 1) / 2

    assert expected(seconds, 1000) == pytest.approx(seconds(1000))


def test_a_rival_that_fails_is_listed_with_the_reason(fitted, monkeypatch):
    def fail(name, recordings, *rest, **options):
        if name == "cka":
            raise ZeroDivisionError("by nothing")
        if name == "rsa":
            raise DynamoError("it is not installed: install it")
        if name == "svcca":
            return np.full((len(recordings), len(recordings)), np.nan)
        return distance_matrix(name, recordings, *rest, **options)

    monkeypatch.setattr(module, "distance_matrix", fail)
    found = compare(*fitted, "kind", methods=["cka", "rsa", "svcca", "procrustes"], examples=10)
    reasons = {method.name: method.reason for method in found.methods}
    assert reasons["cka"] == "ZeroDivisionError: by nothing"
    assert reasons["rsa"] == "it is not installed: install it"
    assert "nan" in reasons["svcca"]
    assert reasons["procrustes"] == reasons["dynamo"] == ""
    assert all((method.figures is None) == bool(method.reason) for method in found.methods)
    assert [row["note"] for row in records(found.costs_table())] == [method.reason for method in found.methods]
    assert records(found.table())[1] == {**dict.fromkeys(found.table()[0]), "method": "cka"}
    assert "by nothing" in words(plot_compare(found))


def test_the_tables_show_the_figures(fitted):
    found = compare(*fitted, "kind", methods=["procrustes"], examples=10)
    row, figures = records(found.table())[1], found.methods[1].figures
    assert (row["auprc"], row["p"], row["violation rate"]) == (figures.auprc, figures.auprc_p, figures.violation_rate)
    assert (row["silhouette"], row["neighbour accuracy"]) == (figures.silhouette, figures.neighbour_accuracy)
    assert [row[f"ari {name}"] for name in CLUSTERERS] == list(figures.ari.values())
    dynamo, rival = records(found.costs_table())
    assert (dynamo["fit seconds"], dynamo["seconds"], dynamo["recording seconds"]) == (fitted[0].seconds, None, None)
    assert (rival["fit seconds"], rival["seconds"]) == (None, found.methods[1].seconds)
    assert rival["recording seconds"] == found.recording_seconds


def test_models_of_several_data_sets_meet_on_inputs_of_all():
    tasks = [problems.dataset(group="one"), problems.dataset(group="two", examples=40, steps=7)]
    models = Population([problems.base_model(f"m{n}", tasks[n % 2], hidden=3 + n, seed=n) for n in range(4)])
    found = common_recordings(models, 9)
    assert all(recording.inputs is found[0].inputs for recording in found)
    assert len(found[0]) == 9
    starts = found[0].inputs.values[:, 0, 0]
    shares = [int(torch.isin(starts, task.halves()[1].values[:, 0, 0]).sum()) for task in tasks]
    assert shares == [4, 5]
    for base, recording in zip(models, found, strict=True):
        own = base.model.trajectory(recording.inputs)
        torch.testing.assert_close(recording.trajectory.outputs, own.outputs)
    again, other = common_recordings(models, 9)[0].inputs, common_recordings(models, 9, seed=1)[0].inputs
    assert torch.equal(found[0].inputs.values, again.values)
    assert not torch.equal(starts, other.values[:, 0, 0])
    assert len(common_recordings(models, None)[0]) == 12 + 20
    with pytest.raises(DynamoError, match="1 examples cannot serve 2 data sets"):
        common_recordings(models, 1)


def test_progress_names_the_method_and_its_pairs(fitted):
    seen = []

    def stages(description, total):
        return lambda done, whole, note="": seen.append((description, done, whole))

    compare(*fitted, "kind", methods=["cka"], examples=10, progress=stages)
    assert seen[-1] == ("cka", 15, 15)
    assert len(seen) == 15


def words(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))


def test_the_picture_shows_every_layout_and_clusterer(fitted):
    found = compare(*fitted, "kind", methods=["cka", "procrustes"], examples=10)
    figure = plot_compare(found, "a title")
    shown = words(figure)
    for word in ("dynamo", "cka", "procrustes", *CLUSTERERS, "a title", "kind"):
        assert word in shown
    panels = [axes for part in figure.subfigs for axes in part.axes if axes.get_visible()]
    assert len(panels) == 3 + 1
    drawn = np.concatenate([marks.get_offsets() for marks in panels[1].collections])
    np.testing.assert_allclose(drawn, found.methods[1].layout.coordinates)
    numbers = attrs.evolve(found, by="score", values=[0.1 * n for n in range(6)] + [0.9])
    many = attrs.evolve(
        numbers,
        methods=tuple(
            attrs.evolve(method, layout=attrs.evolve(method.layout, coordinates=np.eye(7)[:, :2]))
            for method in numbers.methods
        ),
    )
    assert "score" in words(plot_compare(many))  # numbers get a scale


def test_errors(fitted):
    fit, population = fitted
    with pytest.raises(DynamoError, match="did you mean 'pwcca'"):
        compare(fit, population, "kind", methods=["pwca"])
    with pytest.raises(DynamoError, match="no metadata 'kid': did you mean 'kind'"):
        compare(fit, population, "kid", methods=[])
    some = attrs.evolve(fit, metadata=[*fit.metadata[:-1], {"number": 5}])
    with pytest.raises(DynamoError, match="'m5' has no metadata 'kind'"):
        compare(some, population, "kind", methods=[])
    with pytest.raises(DynamoError, match="6 models in 6 group"):
        compare(fit, population, "number", methods=[])
    alike = attrs.evolve(fit, metadata=[{"kind": "a"}] * 6)
    with pytest.raises(DynamoError, match="6 models in 1 group"):
        compare(alike, population, "kind", methods=[])
    with pytest.raises(DynamoError, match="not those of the fit"):
        compare(fit, Population(list(population)[::-1]), "kind", methods=[])


def test_the_command(tmp_path, capsys):
    from dynamo.cli import main

    models, run, out = tmp_path / "p", tmp_path / "run", tmp_path / "out"
    train = ["-a", "gru:hidden_size=4", "-d", "digits-rows", "-f", "1", "-f", "0.2", "--seeds", "2", "--epochs", "1"]
    main(["train", str(models), *train])
    main(["fit", str(models), "-o", str(run), "--preset", "laptop", "--steps", "2", "--theta-dim", "3"])
    capsys.readouterr()
    main(
        [
            "analyse",
            "compare",
            str(run),
            "--by",
            "fraction",
            "--methods",
            "cka, rsa",
            "--examples",
            "20",
            "-o",
            str(out),
        ]
    )
    printed = capsys.readouterr().out
    tables = {
        name: list(csv.reader((out / f"{name}.csv").open())) for name in ("compare", "costs", "clusterers", "groups")
    }
    for name in ("dynamo", "cka", "rsa"):
        assert name in printed
        assert [row[0] for row in tables["compare"]].count(name) == 1
        assert [row[0] for row in tables["clusterers"]].count(name) == len(CLUSTERERS)
        assert [row[:2] for row in tables["groups"] if row[0] == name] == [[name, "0.2"], [name, "1.0"]]
        assert (out / f"distances-{name}.csv").exists()
    assert (out / "compare.png").stat().st_size > 0
    assert float(tables["costs"][1][-2]) == pytest.approx(Fit.load(run).seconds)
    for arguments, message in (
        (["--by", "fractions"], "did you mean 'fraction'"),
        (["--by", "fraction", "--methods", "dsaa"], "did you mean 'dsa'"),
    ):
        with pytest.raises(SystemExit):
            main(["analyse", "compare", str(run), *arguments])
        assert message in capsys.readouterr().err


def test_all_rivals_are_compared_unless_some_are_named(fitted, monkeypatch):
    def fail(name, *rest, **options):
        raise DynamoError("none today")

    monkeypatch.setattr(module, "distance_matrix", fail)
    found: Comparison = compare(*fitted, "kind", examples=10)
    assert [method.name for method in found.methods] == ["dynamo", *RIVALS]


@pytest.fixture
def run(tmp_path, fitted, monkeypatch):
    """A run folder whose base models are at hand."""
    fit, population = fitted
    fit.save(tmp_path / "run")
    monkeypatch.setattr(AskedRun, "population", population)
    return tmp_path / "run"


def test_the_noise_floor_of_a_run_is_told_by_every_comparison(run, fitted, capsys):
    noise = NoiseFloor("theta", ["m0", "m1"], [0.25, 0.75], 2.0)
    (run / "distances").mkdir()
    noise.write(run / "distances")
    assert NoiseFloor.read(run / "distances", "theta").ratio == noise.ratio == 0.25
    assert NoiseFloor.read(run / "distances", "states") is None
    own = fitted[0].distances("theta").with_floor(noise)
    assert "equal models" in own.describe()
    options = ["--by", "kind", "--distance", "theta"]
    main(["analyse", "clusters", str(run), *options, "--permutations", "9"])
    assert own.describe() in capsys.readouterr().out
    main(["analyse", "compare", str(run), *options, "--methods", "output-disagreement", "--examples", "10"])
    assert own.describe() in capsys.readouterr().out
    rows = list(csv.DictReader((run / "compare" / "groups.csv").open()))
    assert [float(row["equal models"]) for row in rows[:2]] == pytest.approx([own.floor] * 2)
    assert {row["equal models"] for row in rows[2:]} == {""}
    main(["analyse", "distances", str(run), "--kind", "theta"])
    assert own.describe() in capsys.readouterr().out
    (run / "distances" / "noise-theta.csv").write_text("model,a,b\nm0,x,1\n")
    with pytest.raises(SystemExit):
        main(["analyse", "clusters", str(run), *options])
    assert "noise-theta.csv is damaged" in capsys.readouterr().err


def test_fit_clusters_and_compare_tell_the_same_agreement(run, capsys):
    main(["show", str(run), "--colour-by", "kind"])
    told = capsys.readouterr().out
    shown = [line for line in told.splitlines() if line.startswith("groups by kind: k-means ARI")]
    main(["analyse", "clusters", str(run), "--by", "kind", "--permutations", "9", "--seed", "5"])
    assert "one cluster: p = " in capsys.readouterr().out
    measures = {row["measure"]: float(row["value"]) for row in csv.DictReader((run / "clusters/agreement.csv").open())}
    options = ["--methods", "output-disagreement", "--examples", "10", "--seed", "7"]
    main(["analyse", "compare", str(run), "--by", "kind", *options])
    own = next(csv.DictReader((run / "compare" / "compare.csv").open()))
    assert {row["cluster"] for row in csv.DictReader((run / "clusters" / "clusters.csv").open())} == {"1"}
    assert float(own["ari k-means"]) == pytest.approx(measures["ARI"])
    assert float(own["silhouette"]) == pytest.approx(measures["silhouette"])
    assert f"k-means ARI {measures['ARI']:.2f}, silhouette {measures['silhouette']:.2f}" in shown[0]

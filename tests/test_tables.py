"""Results as tables: what stands in them, without a run."""

import numpy as np
import pytest

from dynamo.analysis.dynamics.word_map import Correlation
from dynamo.analysis.geometry.agreement import MEASURES, agreement
from dynamo.analysis.geometry.alignment import align
from dynamo.analysis.geometry.clusters import Clusters, find_clusters
from dynamo.analysis.geometry.cuts import Cut, Evidence
from dynamo.analysis.networks.averages import Average, Between, Way, average_table
from dynamo.analysis.table import numbered


def test_numbered_columns_count_from_one():
    assert numbered("theta", 3) == ["theta_1", "theta_2", "theta_3"]
    assert numbered("theta", 0) == []


def test_clusters_are_numbered_from_one_and_models_in_none_are_named():
    clusters = Clusters("hdbscan", np.array([0, 1, -1]), None)
    assert clusters.table(["a", "b", "c"]) == (["model", "cluster"], [["a", 1], ["b", 2], ["c", "none"]])
    assert clusters.table(["a", "b", "c"], "kind", ["x", "y", "z"]) == (
        ["model", "kind", "cluster"],
        [["a", "x", 1], ["b", "y", 2], ["c", "z", "none"]],
    )


def test_evidence_tells_the_cuts():
    places = np.array([-2.0, -1.5, -1.0, 1.0, 1.2, 1.1, 1.2])
    cut = Cut(np.arange(7), (places > 0).astype(int), places, 0.9, 0.7, 0.01, 0.05, 99)
    evidence = Evidence((cut,), 99)
    assert evidence.table()[1] == [[7, "3 + 4", 0.9, 0.7, 0.01, 0.05, True]]
    assert (evidence.count, evidence.p_value) == (2, 0.01)
    assert evidence.describe() == "one cluster: p = 0.01 (parts of the map, against 99 even spreads)"


def test_ways_between_two_models():
    line = Way("line", np.array([1.0, 0.25, 0.5]), energy=2.0, length=1.0)
    result = Between(("a", "b"), np.array([0, 0.5, 1]), (line, Way("parameters", None, "they differ")), ((), ()))
    columns, rows = result.table()
    assert dict(zip(columns, rows[0], strict=True)) == {
        "way": "line",
        "score_at_a": 1.0,
        "score_at_b": 0.5,
        "least": 0.25,
        "dip": pytest.approx(0.5),
        "energy": 2.0,
        "length": 1.0,
        "note": "",
    }
    assert rows[1] == ["parameters", None, None, None, None, None, None, "they differ"]
    assert result.path_table() == (["alpha", "line"], [[0.0, 1.0], [0.5, 0.25], [1.0, 0.5]])


def test_averages_have_a_column_for_each_attribute():
    average = Average("all", 3, 0.5, None, None, None, 0.25, "no ensemble")
    columns, rows = average_table([average])
    assert dict(zip(columns, rows[0], strict=True))["parameters_score"] == 0.25
    assert rows == [["all", 3, 0.5, None, None, None, 0.25, "no ensemble"]]


def test_agreement_has_a_row_for_each_measure_and_group():
    theta = _two_clouds()
    result = agreement(theta, list("aaaabbbb"), clusters=find_clusters(theta, count=2), permutations=19, halves=20)
    columns, rows = result.table()
    assert [row[0] for row in rows] == list(MEASURES)
    assert rows[0][1] == result["ARI"].value == 1
    assert rows[0][columns.index("p")] == result["ARI"].p_value
    columns, rows = result.groups_table("kind")
    assert columns[0] == "kind"
    assert [row[:2] for row in rows] == [["a", 4], ["b", 4]]
    assert all(row[columns.index("in the group")] < row[columns.index("to others")] for row in rows)


def test_the_least_stable_model_comes_first():
    theta = np.vstack([_two_clouds(), [[5, 5]]])
    moved = theta.copy()
    moved[-1] += [2, -3]
    result = align([theta, moved], permutations=2)
    columns, rows = result.table([*"abcdefgh", "moved"])
    assert columns == ["model", "residual", "median distance", "1 to 2"]
    assert rows[0][0] == "moved"
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    assert result.runs_table(["one", "two"])[1][0][:3] == ["1 to 2", "one", "two"]


def test_a_correlation_in_words():
    assert Correlation(0.5, 0.0123, 7).describe() == "Spearman 0.50, p 0.012, 7 pairs"


def _two_clouds():
    return np.random.default_rng(0).normal(size=(8, 2)) * 0.1 + np.repeat([[10.0, 0.0], [0.0, 0.0]], 4, axis=0)

"""Names and metadata of users in pictures, tables and on streams: as they are written, whatever is in them."""

import csv
import json
import os
import re
import subprocess
import sys
import warnings
from html import unescape
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from dynamo import Fit, FitOptions, Population, fit_population
from dynamo.analysis.geometry.clusters import Clusters
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.table import columns_of
from dynamo.report import terminal
from dynamo.report.plots import fixed_points
from dynamo.report.plots.embedding import plot_embedding
from dynamo.report.plots.map import plot_map
from dynamo.report.plots.picture import as_text
from dynamo.report.run import write_figure, write_map
from problems import fitted, population

HOSTILE = [
    "$\\frac{$", "$10$", "_base", "__", "x\\y", "<b>&amp;", "[/x]", "100 %", "-- ->", "שלום", "مرحبا", "é\u0301", "😀",
]  # fmt: skip
OPTIONS = FitOptions(meta_model="gru:hidden_size=4,embedding_size=3", theta_dim=2, models_per_step=None, steps=2)


def drawn(folder, figure, name="picture"):
    """The texts in the picture, from the comments that matplotlib writes beside what it draws."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of characters that the font lacks, and of layouts that collapse
        write_figure(figure, folder, name)
    text = (folder / f"{name}.svg").read_text()
    return [unescape(found).replace("- -", "--") for found in re.findall("<!-- (.*?) -->", text, re.DOTALL)]


@pytest.mark.parametrize("value", HOSTILE)
def test_every_text_is_drawn_as_it_is_written(tmp_path, value):
    places = spectrum(np.random.default_rng(0).normal(size=(4, 3)))
    figure = plot_map(places, value, [value, "tuned"] * 2, value)
    found = drawn(tmp_path, figure)
    for text in (value, "tuned"):
        assert text in found
    assert found.count(value) == 3  # as the title, over the legend, in it
    scale = drawn(tmp_path, plot_map(spectrum(np.random.default_rng(0).normal(size=(9, 3))), value, list(range(9))))
    assert value in scale
    new = plot_embedding(places, value, [value, "tuned"] * 2, np.zeros((1, 3)), [value], [True])
    assert drawn(tmp_path, new).count(value) == 3


def test_long_texts_and_those_that_no_font_has_are_cut_and_written_out(tmp_path):
    long, unknown = "a" * 200 + "b", "\U000f0000"
    places = spectrum(np.random.default_rng(0).normal(size=(4, 3)))
    found = drawn(tmp_path, plot_map(places, "key", [long, unknown] * 2))
    assert as_text(long) in found
    assert len(as_text(long)) < 41
    assert as_text(long).endswith("ab")
    assert "\\U000f0000" in found
    assert as_text("one\nline\x1b") == "one\\nline\\x1b"


def test_a_picture_is_the_same_when_it_is_drawn_again(tmp_path):
    fit, _ = fitted()
    for folder in ("a", "b"):
        write_map(fit, tmp_path / folder, None)
    for name in ("map.svg", "map.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("value", HOSTILE)
def test_tables_print_texts_and_heads_as_they_are_written(capsys, value):
    terminal.table(["name", value], [[value, 1.0]])
    head, row = (line.split() for line in capsys.readouterr().out.splitlines())
    assert " ".join(head) == f"name {value}"
    assert " ".join(row) == f"{value} 1.000"


def test_a_fit_to_hostile_metadata_is_saved_measured_and_drawn(tmp_path):
    models = population(4)
    named = [attrs.evolve(base, metadata={"$k_": HOSTILE[n % 2]}) for n, base in enumerate(models)]
    fit_population(Population(named), OPTIONS, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"run.toml", "fidelity.csv", "map.svg", "map.png"}
    assert Fit.load(tmp_path / "run").metadata[0] == {"$k_": "$\\frac{$"}


def test_metadata_called_like_a_column_has_a_column_of_its_own(tmp_path):
    fit, _ = fitted()
    keys = {"name": "n", "theta_1": 1, "pc_1": 2, "metadata_name": "m", "plain": 3}
    write_map(attrs.evolve(fit, metadata=[keys] * 3), tmp_path, None)
    with (tmp_path / "embedding.csv").open() as file:
        rows = list(csv.reader(file))
    assert len(set(rows[0])) == len(rows[0])
    first = dict(zip(rows[0], rows[1], strict=True))
    assert (first["name"], first["metadata_metadata_name"], first["metadata_name"]) == ("m0", "n", "m")
    assert (first["metadata_theta_1"], first["metadata_pc_1"], first["plain"]) == ("1", "2", "3")
    assert columns_of(["a", "b"], ["b"]) == ["a", "metadata_b"]
    table = Clusters("kmeans", np.zeros(1, dtype=np.int64), None).table(["m"], "model", ["x"])
    assert table == (["model", "metadata_model", "cluster"], [["m", "x", 1]])


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_output_that_the_stream_cannot_encode_is_written_out(tmp_path, encoding):
    fit, _ = fitted()
    fit = attrs.evolve(fit, metadata=[{"kind": value} for value in ("λ→", "日本", "λ→")])
    fit.save(tmp_path / "run")
    for arguments in (["plugins"], ["show", str(tmp_path / "run")], ["show", str(tmp_path / "λ→日")]):
        found = subprocess.run(
            [sys.executable, "-m", "dynamo.cli", *arguments],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "120"},
            check=False,
        )
        assert b"Traceback" not in found.stderr
        assert found.returncode == (2 if "日" in arguments[-1] else 0)


def test_a_page_holds_texts_as_they_are_written(monkeypatch):
    title = "</script><!--<script><b>$x &amp; _y"
    monkeypatch.setattr(fixed_points, "kinds_of", lambda *arguments: {})
    portrait = SimpleNamespace(coordinates=lambda states: np.zeros((0, 3)), shares=[0.5, 0.3, 0.2], trajectories=[])
    page = fixed_points.turning_page(portrait, SimpleNamespace(states=None), None, title)
    content = re.search(r"const content = (.*);\n", page)[1]
    assert json.loads(content)["title"] == title
    assert "<" not in content

"""The gallery of the docs: its page shows what its script makes."""

import sys
from functools import partial
from pathlib import Path

import attrs
import pytest

from dynamo import Fit

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def gallery(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    sys.modules.pop("make_gallery", None)
    import make_gallery

    return make_gallery


def test_the_page_shows_every_map_and_its_command(gallery):
    page = (DOCS / "gallery.md").read_text()
    for name in gallery.ENTRIES:
        assert f"pictures/gallery-{name}.png" in page
        assert f"docs/make_gallery.py {name}" in page
        assert (DOCS / "pictures" / f"gallery-{name}.png").stat().st_size < 150_000


def test_a_map_is_made_once_with_its_report(gallery, monkeypatch, tmp_path, capsys):
    small = partial(gallery.lorenz, systems=4, trials=6, steps=8)
    entry = attrs.evolve(gallery.ENTRIES["recordings"], population=small, fit="--preset laptop --steps 3", questions=())
    monkeypatch.setitem(gallery.ENTRIES, "recordings", entry)
    gallery.main(["recordings", "--out", str(tmp_path)])
    run = tmp_path / "recordings" / "run"
    fit = Fit.load(run)
    assert [metadata["rho"] for metadata in fit.metadata] == [8.0, 18.67, 29.33, 40.0]
    assert "rho-18.67" in (run / "report.html").read_text()
    before = (run / "run.toml").read_bytes()
    gallery.main(["recordings", "--out", str(tmp_path)])
    assert (run / "run.toml").read_bytes() == before
    with pytest.raises(SystemExit):
        gallery.main(["record"])
    assert "no map is called 'record'" in capsys.readouterr().err


def test_trajectories_of_lorenz_end_where_his_equations_say(gallery):
    import numpy as np

    points = np.random.default_rng(0).normal(size=(50, 3)) * 5 + [0, 0, 9]
    for _ in range(8000):
        points = gallery._runge_kutta(points, 10.0, 0.0025)
    place = (8 / 3 * 9) ** 0.5  # below ρ = 24.74 the fixed points x = y = ±√(β(ρ − 1)), z = ρ − 1 attract
    np.testing.assert_allclose(np.abs(points), np.tile([place, place, 9.0], (50, 1)), atol=1e-3)

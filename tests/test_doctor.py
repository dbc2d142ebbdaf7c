"""dynamo doctor: what is broken is told, with an exit status; what is optional and missing is a note."""

import json
from importlib.metadata import PackageNotFoundError

import pytest

from command_line import dynamo
from dynamo import registry as registry_module
from dynamo.contracts import PluginError
from dynamo.registry import Broken, registry
from dynamo.report import health
from dynamo.report.health import Finding, examine


def of(findings, part):
    return {finding.name: finding for finding in findings if finding.part == part}


def test_what_works_here(tmp_path):
    findings = examine(tmp_path)
    assert not [finding for finding in findings if finding.state == "broken"]
    assert of(findings, "data")["digits-rows"].told == "1348 examples to train on, 449 to test"
    assert of(findings, "data")["arrays"].state == "note"
    assert set(of(findings, "versions")) >= {"python", "dynamo", "torch", "numpy", "scikit-learn", "click"}
    assert "rnn (dynamo-embedding)" in of(findings, "plugins")
    assert set(of(findings, "disk")) == {"here", "temporary files"}
    assert not list(tmp_path.iterdir())


def test_the_exit_status(capsys, monkeypatch, tmp_path):
    assert dynamo("doctor", tmp_path) == 0
    assert "nothing is broken" in capsys.readouterr().out
    monkeypatch.setattr(health, "examine", lambda folder: [Finding("plugins", "mine", "ImportError: no", "broken")])
    assert dynamo("doctor", tmp_path) == 1
    told = capsys.readouterr().out
    assert "broken: plugins mine" in told
    assert "ImportError: no" in told
    assert dynamo("--json", "doctor", tmp_path) == 1
    answer = json.loads(capsys.readouterr().out)
    wanted = {"part": "plugins", "name": "mine", "state": "broken", "what was found": "ImportError: no"}
    assert answer["tables"]["findings"] == [wanted]


def test_a_broken_plugin(monkeypatch):
    monkeypatch.setattr(registry(), "broken", [Broken("mine (my-package)", "ImportError: no module x")])
    found = {finding.name: finding for finding in health._plugins()}
    assert found["mine (my-package)"] == Finding("plugins", "mine (my-package)", "ImportError: no module x", "broken")


def test_two_plugins_of_one_name(monkeypatch):
    def clash():
        raise PluginError("offered by two plugins")

    monkeypatch.setattr(health, "registry", clash)
    assert [finding.state for finding in health._plugins()] == ["broken"]
    assert not list(health._data())


def test_a_plugin_that_is_switched_off(monkeypatch):
    monkeypatch.setenv(registry_module.DISABLED, "rnn")
    assert {finding.name: finding.state for finding in health._plugins()}["rnn"] == "note"


def test_packages(monkeypatch):
    versions = {"torch": "2.7.1", "numpy": "2.0"}

    def version(name):
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    needs = ["torch>=2.8", "numpy>=1.26", "scipy>=1.12", 'cma>=3.3; extra == "search"', 'ruff; extra == "dev"']
    monkeypatch.setattr(health, "requires", lambda name: [*needs, 'appnope; sys_platform == "none"'])
    monkeypatch.setattr(health, "version", version)
    found = {finding.name: finding for finding in health._packages()}
    assert found["torch"].state == "broken"
    assert found["torch"].told == "2.7.1, but >=2.8 is needed: pip install -U torch"
    assert (found["numpy"].state, found["numpy"].told) == ("ok", "2.0")
    assert (found["scipy"].state, found["cma"].state) == ("broken", "note")
    assert found["cma"].told == "not installed: pip install 'cma>=3.3'"
    assert "ruff" not in found
    assert "appnope" not in found


@pytest.mark.parametrize(("free", "state"), [(2**40, "ok"), (2**30, "note"), (2**20, "broken")])
def test_room(tmp_path, free, state):
    assert {finding.state for finding in health._room(tmp_path, lambda place: (0, 0, free))} == {state}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    here, _ = health._room(tmp_path / "file")
    assert here.state == "broken"


def test_the_allocator(tmp_path):
    maps = tmp_path / "maps"
    maps.write_text("7f00 r-xp /usr/lib/libjemalloc.so.2\n")
    assert health._allocator(maps) == "jemalloc"
    maps.write_text("7f00 r-xp /usr/lib/libc.so.6\n")
    assert health._allocator(maps) == "that of the C library"


def test_a_device_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(health.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(health.torch.cuda, "device_count", lambda: 1)
    found = {finding.name: finding for finding in health._devices()}
    if found["cuda:0"].state == "ok":
        pytest.skip("there is one here")
    assert found["cuda:0"].state == "broken"
    assert "accelerator" not in found

"""The registry: clashes, broken and disabled plugins, misspelt hooks and names; and a real installed package."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from dynamo import Component, Divergence, DynamoError, Spec, hookimpl
from dynamo import registry as dynamo_plugins
from dynamo.contracts import InvalidValueError, PluginError
from dynamo.registry import Registry, full_spec, make, read_entry_points, register, registry

ROOT = Path(__file__).parent.parent


def component(name: str = "l0", kind: str = "divergence") -> Component:
    return Component(kind, name, lambda options: None, "help")


def plugin(*components: Component) -> SimpleNamespace:
    return SimpleNamespace(dynamo_components=hookimpl(lambda: list(components)))


@pytest.fixture
def entry_point(monkeypatch):
    """Makes an entry point whose module is the given plugin, of a distribution of the given name."""

    def make_entry_point(name: str, distribution: str, plugin: object = None) -> EntryPoint:
        module = ModuleType(f"module_of_{name}_{distribution}".replace("-", "_"))
        if plugin is not None:
            vars(module).update(vars(plugin))
            monkeypatch.setitem(sys.modules, module.__name__, module)
        entry = EntryPoint(name, module.__name__, "dynamo")
        vars(entry)["dist"] = SimpleNamespace(name=distribution)
        return entry

    return make_entry_point


@pytest.fixture
def empty_registry(monkeypatch):
    """An empty registry in the place of the installed one."""
    empty = Registry()
    monkeypatch.setattr(dynamo_plugins, "registry", lambda: empty)
    return empty


class TestFinding:
    def test_components_are_found_with_their_owner(self, entry_point):
        found = read_entry_points([entry_point("zero", "dynamo-zero", plugin(component(), component("l0", "head")))])
        assert found.find("divergence", "l0").name == "l0"
        assert found.names("divergence") == ["l0"]
        assert [(item.component.kind, item.owner) for item in found.owned()] == [
            ("divergence", "zero (dynamo-zero)"),
            ("head", "zero (dynamo-zero)"),
        ]
        assert found.broken == []

    def test_an_unknown_name_gets_the_nearest_and_all(self):
        with pytest.raises(DynamoError) as error:
            registry().find("state-map", "lowrank")
        known = ", ".join(registry().names("state-map"))
        assert str(error.value) == f"no state-map is called 'lowrank': did you mean 'low-rank'? known: {known}"

    def test_a_name_of_another_kind_is_unknown(self):
        with pytest.raises(DynamoError, match="no head is called 'orthogonal'"):
            registry().find("head", "orthogonal")

    def test_the_built_in_plugins_are_found(self):
        owners = {item.owner for item in registry().owned()}
        assert {f"{name} (dynamo-embedding)" for name in ("divergences", "heads", "state-maps")} <= owners


class TestClashes:
    def test_a_component_of_two_plugins_names_both_and_how_to_switch_one_off(self, entry_point):
        entries = [entry_point("one", "first", plugin(component())), entry_point("two", "second", plugin(component()))]
        with pytest.raises(DynamoError) as error:
            read_entry_points(entries)
        assert str(error.value) == (
            "divergence 'l0' is offered by two plugins, 'one (first)' and 'two (second)': "
            "switch one off with DYNAMO_DISABLED_PLUGINS=two, or rename it"
        )

    def test_the_advice_helps(self, entry_point):
        entries = [entry_point("one", "first", plugin(component())), entry_point("two", "second", plugin(component()))]
        assert [item.owner for item in read_entry_points(entries, disabled=["two"]).owned()] == ["one (first)"]

    def test_one_name_in_two_kinds_is_no_clash(self, entry_point):
        entries = [
            entry_point("one", "first", plugin(component(kind="head"))),
            entry_point("two", "second", plugin(component())),
        ]
        assert len(read_entry_points(entries).owned()) == 2

    def test_an_entry_name_of_two_distributions_names_both(self, entry_point):
        entries = [
            entry_point("same", "first", plugin(component("a"))),
            entry_point("same", "second", plugin(component("b"))),
        ]
        with pytest.raises(DynamoError) as error:
            read_entry_points(entries)
        assert str(error.value) == (
            "two distributions offer a plugin called 'same': 'first' and 'second'; uninstall one of them"
        )

    def test_a_distribution_seen_through_two_paths_is_one(self, entry_point):
        entries = [entry_point("same", "first", plugin(component())) for _ in range(2)]
        assert len(read_entry_points(entries).owned()) == 1


BROKEN = {
    "a misspelt hook": (SimpleNamespace(dynamo_component=hookimpl(lambda: [])), "dynamo_component"),
    "a hook without its mark": (SimpleNamespace(dynamo_components=lambda: []), "it implements no hook"),
    "a hook with an argument": (SimpleNamespace(dynamo_components=hookimpl(lambda registry: [])), "registry"),
    "a hook that fails": (SimpleNamespace(dynamo_components=hookimpl(lambda: 1 / 0)), "ZeroDivisionError"),
    "no components": (plugin("l0"), "dynamo_components gave 'l0', which is no Component"),
    "no list": (SimpleNamespace(dynamo_components=hookimpl(lambda: None)), "TypeError"),
    "a name twice": (plugin(component(), component()), "it offers a name twice"),
}


class TestBrokenPlugins:
    @pytest.mark.parametrize(("broken", "reason"), BROKEN.values(), ids=BROKEN)
    def test_a_broken_plugin_is_skipped_and_named_and_others_load(self, entry_point, broken, reason):
        entries = [
            entry_point("a-good", "first", plugin(component("before"))),
            entry_point("bad", "second", broken),
            entry_point("good", "third", plugin(component("after"))),
        ]
        found = read_entry_points(entries)
        assert found.names("divergence") == ["after", "before"]
        assert [item.owner for item in found.broken] == ["bad (second)"]
        assert reason in found.broken[0].reason

    def test_a_plugin_that_cannot_be_imported_is_skipped_and_named(self, entry_point):
        found = read_entry_points([entry_point("absent", "first"), entry_point("b", "second", plugin(component()))])
        assert found.names("divergence") == ["l0"]
        assert found.broken[0].owner == "absent (first)"
        assert found.broken[0].reason.startswith("ModuleNotFoundError: No module named 'module_of_absent_first'")

    def test_an_unknown_name_mentions_the_plugins_that_were_skipped(self, entry_point):
        found = read_entry_points([entry_point("absent", "first")])
        with pytest.raises(DynamoError, match=r"no head is called 'x': .*; plugin 'absent \(first\)' was"):
            found.find("head", "x")

    def test_a_plugin_with_a_bad_component_name_is_named(self, entry_point):
        shouting = SimpleNamespace(dynamo_components=hookimpl(lambda: [component("L0!")]))
        found = read_entry_points([entry_point("shouting", "first", shouting)])
        assert "L0!" in found.broken[0].reason


class TestDisabling:
    def test_a_disabled_plugin_is_not_even_imported(self, entry_point):
        found = read_entry_points([entry_point("absent", "first")], disabled=["absent"])
        assert found.owned() == []
        assert found.broken == []

    def test_the_environment_variable_disables(self, monkeypatch):
        monkeypatch.setenv("DYNAMO_DISABLED_PLUGINS", "heads, divergences")
        fresh = registry.__wrapped__()
        assert fresh.names("head") == fresh.names("divergence") == []
        assert "linear" in fresh.names("state-map")


class TestRegister:
    def test_a_component_from_a_script(self, empty_registry):
        offered = component("mine")
        assert register(offered) is offered
        assert empty_registry.find("divergence", "mine") is offered
        assert empty_registry.owned()[0].owner == "registered in this session"

    def test_a_name_that_a_plugin_has_is_an_error_that_names_it(self, empty_registry):
        empty_registry.add(plugin(component()), "zero (dynamo-zero)")
        with pytest.raises(DynamoError, match=r"offered by two plugins, 'zero \(dynamo-zero\)' and .registered"):
            register(component())

    def test_a_name_registered_twice_is_an_error(self, empty_registry):
        register(component())
        with pytest.raises(DynamoError, match=r"'l0' is offered by two plugins, .*: rename one"):
            register(component())


class TestLazyBuilders:
    def test_a_builder_is_a_callable_or_its_place(self):
        for build in ("dynamo_divergences.vectors:L2", lambda options: "built"):
            offered = Component("divergence", "mine", build, "help", registry().find("divergence", "l2").options)
            assert offered.make({}) == "built" or isinstance(offered.make({}), Divergence)

    def test_a_place_may_be_a_method_of_a_class(self):
        from dynamo_rnn.models import GRU

        assert registry().find("architecture", "gru").builder() == GRU.build

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            ("no_such_module:build", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
            ("dynamo_divergences.vectors:L7", "cannot be imported: AttributeError: .*'L7'"),
            ("module_that_fails:build", "cannot be imported: ZeroDivisionError: division by zero"),
            ("math:pi", "a float, which cannot be called"),
        ],
    )
    def test_a_place_without_a_builder_names_component_and_plugin(self, monkeypatch, tmp_path, build, message):
        (tmp_path / "module_that_fails.py").write_text("1 / 0")
        monkeypatch.syspath_prepend(tmp_path)
        found = Registry()
        found.add(plugin(Component("divergence", "l0", build, "help")), "zero (dynamo-zero)")
        monkeypatch.setattr(dynamo_plugins, "registry", lambda: found)
        with pytest.raises(PluginError, match=message) as error:
            make("divergence", "l0", Divergence)
        assert str(error.value).startswith(f"plugin 'zero (dynamo-zero)': divergence 'l0' is built by {build!r}, ")

    def test_what_a_builders_module_says_itself_is_passed_on(self, monkeypatch, tmp_path):
        source = "from dynamo import DynamoError\nraise DynamoError('install torchvision')"
        (tmp_path / "module_that_needs.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(DynamoError, match=r"^install torchvision$"):
            Component("head", "mine", "module_that_needs:build", "help").make({})

    @pytest.mark.parametrize(
        "build", ["", "module", "module:", ":function", "mod ule:function", "module:a-b", "a..b:c"]
    )
    def test_a_text_that_is_no_place_is_refused_at_once(self, build):
        with pytest.raises(InvalidValueError, match=r"head 'mine': build is .*; write 'module:function'"):
            Component("head", "mine", build, "help")

    def test_every_place_of_the_built_in_plugins_has_a_builder(self):
        texts = [item.component for item in registry().owned() if isinstance(item.component.build, str)]
        assert len(texts) >= 38
        assert all(callable(component.builder()) for component in texts)

    def test_listing_imports_no_builder(self):
        found = listed()
        assert not found["torch"]
        assert not any(found["builders"].values()), found["builders"]


class TestMaking:
    def test_make_builds_from_a_spec_and_its_options(self):
        made = make("divergence", "l2:squared=no", Divergence)
        assert made.is_metric

    def test_what_a_plugin_builds_must_be_of_the_contract(self, empty_registry):
        register(component())
        with pytest.raises(DynamoError, match="divergence 'l0' built a NoneType, which is no Divergence"):
            make("divergence", "l0", Divergence)

    def test_full_spec_spells_out_defaults(self):
        assert full_spec("divergence", "l2:squared=no") == Spec("l2", {"squared": False, "reduction": "sum"})

    def test_full_spec_refuses_unknown_options(self):
        with pytest.raises(DynamoError, match="divergence 'l2' has no option 'square': did you mean 'squared'"):
            full_spec("divergence", "l2:square=no")


LIST = """
import json, sys
from dynamo.registry import registry
print(json.dumps({
    "owned": [[item.component.kind, item.component.name, item.owner] for item in registry().owned()],
    "broken": [item.owner for item in registry().broken],
    "torch": "torch" in sys.modules,
    "builders": {
        item.component.build: item.component.build.partition(":")[0] in sys.modules
        for item in registry().owned() if isinstance(item.component.build, str)
    },
}))
"""


def listed(**environment: str) -> dict:
    """What a fresh interpreter finds."""
    done = subprocess.run(
        [sys.executable, "-c", LIST], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which pip has installed the example package, without a network."""
    target, source = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(ROOT / "examples" / "third_party", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True, timeout=120)
    return target


EXAMPLE = [
    ["architecture", "leaky"],
    ["augmentation", "jitter"],
    ["dataset", "ramps"],
    ["divergence", "log-cosh"],
    ["head", "cosine"],
    ["meta-model", "film"],
    ["state-map", "scaled"],
]


class TestInstalledPackage:
    def test_its_components_appear_with_their_owner(self, installed):
        found = listed(PYTHONPATH=str(installed))
        assert [[kind, name] for kind, name, owner in found["owned"] if owner == "leaky (dynamo-leaky)"] == EXAMPLE
        assert found["broken"] == []

    def test_every_component_is_used_by_name_from_the_command_line(self, installed, tmp_path):
        def dynamo(*arguments):
            environment = {**os.environ, "PYTHONPATH": str(installed)}
            command = [sys.executable, "-m", "dynamo.cli", *arguments, "--threads", "1"]
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

        population, run = str(tmp_path / "population"), str(tmp_path / "run")
        train = ["-a", "leaky:hidden_size=6,leak=0.3", "-d", "ramps:examples=40", "--epochs", "1", "--seeds", "2"]
        assert "2 models in" in dynamo("train", population, *train, "--augmentation", "jitter")
        components = ["--meta-model", "film:hidden_size=6", "--state-map", "scaled", "--head", "cosine"]
        sizes = ["--theta-dim", "2", "--steps", "3"]
        told = dynamo("fit", population, "-o", run, *components, "--hidden-divergence", "log-cosh", *sizes)
        assert f"run folder   {run}" in told

    def test_the_environment_variable_switches_it_off(self, installed):
        found = listed(PYTHONPATH=str(installed), DYNAMO_DISABLED_PLUGINS="leaky")
        assert not any(owner.startswith("leaky") for _, _, owner in found["owned"])

    def test_listing_the_built_in_plugins_does_not_import_torch(self):
        found = listed()
        assert found["owned"]
        assert not found["torch"]

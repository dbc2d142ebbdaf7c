"""The shipped contract checks, over every registered component and those of the example package."""

import importlib.util
from pathlib import Path

import pytest

from dynamo import Component, DynamoError, Spec
from dynamo.contracts.components import KINDS, SIGNATURES
from dynamo.registry import registry
from dynamo.testing import check_component
from dynamo.testing.components import CASES

EXAMPLE = Path(__file__).parent.parent / "examples" / "third_party" / "dynamo_leaky.py"

#: Options that lead to other code than the defaults do.
VARIANTS = [
    ("divergence", "l1:reduction=mean"),
    ("divergence", "l2:reduction=mean"),
    ("divergence", "l2:squared=false"),
    ("divergence", "l2:squared=false,reduction=mean"),
    ("divergence", "huber:delta=0.3,reduction=mean"),
    ("divergence", "kl:temperature=4"),
    ("head", "linear:bias=false"),
    ("state-map", "low-rank:rank=2,bias=false"),
    ("state-map", "mlp:hidden_size=7,depth=3"),
    ("state-map", "orthogonal:bias=true"),
]


def example_components() -> list[Component]:
    spec = importlib.util.spec_from_file_location("dynamo_leaky", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dynamo_components()


def check(component: Component, options=None) -> None:
    try:
        check_component(component, options)
    except DynamoError as error:
        if component.kind != "dataset":
            raise
        pytest.skip(f"its data are not here: {error}")


@pytest.mark.parametrize("component", [owned.component for owned in registry().owned()], ids=str)
def test_contract(component):
    check(component)


@pytest.mark.parametrize("component", example_components(), ids=str)
def test_contract_of_the_example_package(component):
    check_component(component)


@pytest.mark.parametrize(("kind", "text"), VARIANTS, ids=[text for _, text in VARIANTS])
def test_contract_of_other_options(kind, text):
    spec = Spec.parse(text)
    check(registry().find(kind, spec.name), spec.options)


def test_every_plugin_loads():
    assert registry().broken == []


def test_every_kind_has_a_signature_a_check_and_a_component():
    assert set(CASES) == set(SIGNATURES) == set(KINDS)
    assert {owned.component.kind for owned in registry().owned()} == set(KINDS)


def test_the_example_package_shows_every_kind():
    assert {component.kind for component in example_components()} == set(KINDS)


def test_data_sets_that_are_generated_are_not_skipped():
    here = [name for name in registry().names("dataset") if _can_be_had(registry().find("dataset", name))]
    assert len(here) >= 2


def _can_be_had(component: Component) -> bool:
    try:
        component.make({})
    except DynamoError:
        return False
    return True

"""One check for any component: build it with small generated spaces and run what its kind calls for."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from dynamo.contracts.components import Component, Kind
from dynamo.contracts.errors import DynamoError, PluginError
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import RecurrentModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.testing.augmentations import check_augmentation
from dynamo.testing.claims import claim
from dynamo.testing.datasets import check_dataset
from dynamo.testing.divergences import check_divergence
from dynamo.testing.inputs import example_inputs
from dynamo.testing.maps import check_head, check_state_map
from dynamo.testing.meta_models import check_meta_model
from dynamo.testing.models import check_model, check_recurrent_model

TOKENS, REAL, IMAGE = InputSpace("tokens", (11,)), InputSpace("real", (3,)), InputSpace("image", (3, 16, 16))
CLASSES, NUMBERS = OutputSpace("classes", 4), OutputSpace("real", 2, readout="every")
FLAT, WIDE, CHANNELS, PATCHES = (6,), (9,), (4, 6, 6), (10, 5)

#: What each kind is built with: the arguments after the options, by the attributes that must hold them afterwards.
CASES: dict[Kind, tuple[dict[str, Any], ...]] = {
    "architecture": (
        {"inputs": TOKENS, "outputs": CLASSES},
        {"inputs": REAL, "outputs": NUMBERS},
        {"inputs": IMAGE, "outputs": CLASSES},
    ),
    "dataset": ({},),
    "meta-model": tuple({"inputs": space, "theta_dim": 3} for space in (TOKENS, REAL, IMAGE)),
    "state-map": (
        {"meta_shape": FLAT, "base_shape": FLAT},
        {"meta_shape": FLAT, "base_shape": WIDE},
        {"meta_shape": WIDE, "base_shape": FLAT},
        {"meta_shape": CHANNELS, "base_shape": CHANNELS},
        {"meta_shape": CHANNELS, "base_shape": (3, 6, 6)},
        {"meta_shape": CHANNELS, "base_shape": PATCHES},
        {"meta_shape": CHANNELS, "base_shape": FLAT},
    ),
    "divergence": ({},),
    "augmentation": tuple({"inputs": space} for space in (TOKENS, REAL, IMAGE)),
    "head": tuple({"feature_size": 5, "outputs": space} for space in (CLASSES, NUMBERS)),
}


def check_component(component: Component, options: Mapping[str, Any] | None = None) -> None:
    """Build a component and check the contract of its kind, on each generated space that it accepts.

    The spaces are tokens, real vectors and images for architectures and meta-models; flat states, feature maps and a
    transformer's tokens for state maps. One that the component refuses with a ``DynamoError`` is passed over, but it
    must accept one of them.

    Args:
        component: the component.
        options: values that replace defaults of its options.

    Raises:
        AssertionError: a contract is broken; the message names it, and the spaces.
        DynamoError: a data set cannot be had (a file is missing, say).

    Example:
        >>> from dynamo import component
        >>> from dynamo.testing import check_component
        >>> check_component(component("head", "linear"))
    """
    check_options(component)
    refused = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for case in CASES[component.kind]:
            case_text = ", ".join(str(argument) for argument in case.values())
            try:
                component.make(options or {}, *case.values())
            except PluginError as error:
                raise AssertionError(f"building: {error}") from error
            except DynamoError as error:
                if not case:
                    raise
                refused.append(f"{case_text}: {error}")
                continue
            try:
                _check_case(component, options or {}, case)
            except AssertionError as error:
                where = f"{component} ({case_text})" if case else str(component)
                raise AssertionError(f"{where} breaks a contract: {error}") from error
    accepts = len(refused) < len(CASES[component.kind])
    claim(accepts, f"building: {component} accepts none of the generated spaces; {'; '.join(refused)}")


def check_options(component: Component) -> None:
    """Check that the options class is frozen, typed and documented, and that its defaults are accepted, also as text.

    Raises:
        AssertionError: a contract is broken; the message names it.
    """
    claim(bool(component.help.strip()), f"help: {component} has none")
    claim(attrs.has(component.options), f"options: those of {component} are no attrs class")
    for field in attrs.fields(component.options):
        where = f"options: {field.name!r} of {component}"
        claim(bool(field.metadata.get("help")), f"{where} has no help; make it with dynamo.option")
        text = "has its type as text; leave out 'from __future__ import annotations'"
        claim(not isinstance(field.type, str), f"{where} {text}")
    full = component.full({})
    text = str(Spec(component.name, full))
    try:
        given, read = component.full(full), component.full(Spec.parse(text).options)
    except DynamoError as error:
        raise AssertionError(f"options: the defaults of {component} are refused when given: {error}") from error
    claim(given == full, f"options: the defaults of {component} change when given")
    claim(read == full, f"options: the defaults of {component} change when written as {text!r}")
    claim(_is_frozen(component.configure({})), f"options: those of {component} can be changed; use attrs.frozen")


def _is_frozen(options: Any) -> bool:
    for field in attrs.fields(type(options)):
        try:
            setattr(options, field.name, getattr(options, field.name))
        except attrs.exceptions.FrozenInstanceError:
            continue
        return False
    return True


def _check_case(component: Component, options: Mapping[str, Any], case: Mapping[str, Any]) -> None:
    def build() -> Any:
        return component.make(options, *case.values())

    made = build()
    for name, argument in case.items():
        held = getattr(made, name, None)
        claim(held == argument, f"declaration: it is built with {name} {argument}, and declares {held}")
    _CHECKS[component.kind](made, build)


def _check_architecture(model: Any, build: Callable[[], Any]) -> None:
    check = check_recurrent_model if isinstance(model, RecurrentModel) else check_model
    check(model, example_inputs(model.inputs, batch=3), rebuild=build)


def _check_meta_model(meta_model: Any, build: Callable[[], Any]) -> None:
    check_meta_model(meta_model, example_inputs(meta_model.inputs, batch=3), rebuild=build)


def _check_dataset(dataset: Any, build: Callable[[], Any]) -> None:
    check_dataset(dataset)
    again = build().fingerprint() == dataset.fingerprint()
    claim(again, "determinism: the data set differs when it is made again; take a seed as an option")


_CHECKS: dict[Kind, Callable[[Any, Callable[[], Any]], None]] = {
    "architecture": _check_architecture,
    "dataset": _check_dataset,
    "meta-model": _check_meta_model,
    "state-map": lambda state_map, build: check_state_map(state_map, rebuild=build),
    "divergence": lambda divergence, build: check_divergence(divergence),
    "augmentation": lambda augmentation, build: check_augmentation(
        augmentation, example_inputs(augmentation.inputs, batch=8)
    ),
    "head": lambda head, build: check_head(head, rebuild=build),
}

"""What the explorer answers, without the web: the meta-model at any θ, beside base models' emulators."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.networks.evaluate import scores_at
from dynamo.analysis.networks.task import some, task_of
from dynamo.contracts.data import Examples
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.fit.emulated import Emulated
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.serve.asked import read_inputs, read_names, read_place, read_text, read_theta, rows_of
from dynamo.serve.points import Point, Points
from dynamo.system.storage import tensors_to_bytes

#: Base models beside the answer, and test examples that a score is taken on.
BESIDE, SCORED = 8, 256

#: Emulators, and inputs, whose states give the axes of trajectories.
AXES_MODELS, AXES_INPUTS = 64, 64

#: A θ is far outside where it is so many times farther from the mean than the farthest base model.
FAR = 3.0


@attrs.define(eq=False)
class Explorer:
    """A run, to be asked.

    Attributes:
        folder: the run folder.
        fit: its fit.
        population: its base models, for scores; None where they are not at hand.
    """

    folder: Path
    fit: Fit
    population: Population | None
    points: Points
    _scores: dict[tuple[str, str], float] = attrs.field(factory=dict, init=False)
    _examples: dict[str, Examples | str] = attrs.field(factory=dict, init=False)
    _asked: tuple[tuple[str, bytes], dict[str, dict[str, Any]]] = attrs.field(
        factory=lambda: (("", b""), {}), init=False
    )
    _axes: tuple[Floats, Floats] | None = attrs.field(default=None, init=False)
    _has_axes: bool = attrs.field(default=False, init=False)

    __repr__ = brief

    @classmethod
    def open(cls, folder: Path, population: Path | None = None) -> "Explorer":
        """A run folder, with its base models where they are at hand.

        Raises:
            DynamoError: it is no run, or a population that is asked for is not its own.
        """
        fit = Fit.load(folder)
        try:
            models: Population | None = fit.open_population(population)
        except DynamoError:
            if population is not None:
                raise
            models = None
        return cls(folder, fit, models, Points(folder, fit.theta.shape[1]))

    @property
    def heads(self) -> list[str]:
        """The names of the heads."""
        return [name for name, _ in self.fit.emulator.blueprint.heads]

    def at(self, table: Mapping[str, Any]) -> tuple[list[float] | str, str]:
        """Where a request is: θ or a base model's name, and the head.

        Raises:
            DynamoError: there is no such base model or head, or a θ that is none.
        """
        theta, head = read_theta(table, self.fit.theta.shape[1]), read_text(table, "head", needed=False)
        if head is not None and head not in self.heads:
            raise DynamoError(f"no head is called {head!r}: {did_you_mean(head, self.heads)}")
        if isinstance(theta, str):
            return theta, head or self.fit.emulator.group_of(self._number(theta))
        if head is None and len(self.heads) > 1:
            raise DynamoError(f"say which 'head', one of {', '.join(self.heads)}")
        return theta, head or self.heads[0]

    def theta_of(self, theta: Sequence[float] | str) -> Tensor:
        """The numbers ``[d]`` of a θ or of a base model."""
        return self.fit.theta[self._number(theta)] if isinstance(theta, str) else torch.tensor(theta)

    def answer(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """What the network at a θ does on an input, beside base models' emulators.

        Args:
            table: ``model`` or ``theta``, ``head``, ``values``, ``beside`` (names of base models), ``score``.

        Returns:
            ``rows``, the asked one first: its ``name``, the ``outputs`` as the head gives them ``[T][K]``, the ``path``
            of its states ``[T][3]`` where there are axes, and its ``score``; and what there is to ``warn`` of.

        Raises:
            DynamoError: something is asked for that cannot be had.
        """
        theta, head = self.at(table)
        inputs = read_inputs(table, self.fit.emulator.blueprint.inputs)
        rows = [self._row("here", theta, head, inputs)]
        key = (head, inputs.values.numpy().tobytes())
        if key != self._asked[0]:  # while the reader moves, the input stays, and the models beside answer as before
            self._asked = (key, {})
        for name in read_names(table, "beside", BESIDE):
            if name not in self._asked[1]:
                self._asked[1][name] = self._row(name, name, head, inputs)
            rows.append(dict(self._asked[1][name]))
        told = {"head": head, "rows": rows, "warn": self._warning(self.theta_of(theta))}
        if table.get("score") is True:
            told["scored"] = self._score(head, [theta, *(row["name"] for row in rows[1:])], rows)
        return told

    def _row(self, name: str, theta: Sequence[float] | str, head: str, inputs: Inputs) -> dict[str, Any]:
        trajectory = self.fit.emulate(self.theta_of(theta), inputs, head=head)
        outputs = trajectory.outputs[0]
        if not all(bool(tensor.isfinite().all()) for tensor in (outputs, *trajectory.states)):
            raise DynamoError(f"the network at {name!r} gives numbers that are not finite: θ is too far outside")
        path = self._path(trajectory)
        return {"name": name, "outputs": rows_of(outputs.tolist(), 9), "path": path}

    def _number(self, name: str) -> int:
        if name not in self.fit.names:
            raise DynamoError(f"no base model is called {name!r}: {did_you_mean(name, self.fit.names)}")
        return self.fit.names.index(name)

    def _warning(self, theta: Tensor) -> str:
        middle = self.fit.theta.mean(0)
        reach, far = float((self.fit.theta - middle).norm(dim=1).max()), float((theta - middle).norm())
        if far <= FAR * reach or reach == 0:
            return ""
        return f"This θ is {far / reach:.3g} times as far from the mean θ as any base model: nothing was fitted there."

    # Scores of the task

    def _score(self, head: str, thetas: Sequence[Sequence[float] | str], rows: list[dict[str, Any]]) -> str:
        """Give the rows their scores; returns what they are, or why there are none."""
        examples = self._test(head)
        if isinstance(examples, str):
            return examples
        for theta, row in zip(thetas, rows, strict=True):
            row["score"] = self._score_at(theta, head, examples)
        kind = "accuracy" if dict(self.fit.emulator.blueprint.heads)[head].kind == "classes" else "R²"
        return f"{kind} on {len(examples)} test examples"

    def _score_at(self, theta: Sequence[float] | str, head: str, examples: Examples) -> float | None:
        known = self._scores.get((theta, head)) if isinstance(theta, str) else None
        if known is not None:
            return known
        found = float(scores_at(self.fit, self.theta_of(theta)[None].numpy(), examples, head=head)[0])
        if isinstance(theta, str):
            self._scores[theta, head] = found
        return found if np.isfinite(found) else None

    def _test(self, head: str) -> Examples | str:
        """Some test examples of a head's task, or why there are none."""
        if head not in self._examples:
            try:
                if self.population is None:
                    raise DynamoError("the base models are not at hand")
                test = task_of(self.fit, self.population, head).dataset.test
                examples = some(test, SCORED)
                scores_at(self.fit, self.fit.theta[:1].numpy(), examples[:1], head=head)
                self._examples[head] = examples
            except DynamoError as error:
                self._examples[head] = f"no score: {error}"
        return self._examples[head]

    # Trajectories of states

    def _path(self, trajectory: Trajectory) -> list[list[float]]:
        """The states on the axes, ``[T, 3]``; empty where there are none."""
        axes = self.axes
        if axes is None:
            return []
        states = trajectory.states[-1][0].double().numpy()
        return rows_of(((states - axes[0]) @ axes[1].T).tolist(), 5)

    @property
    def axes(self) -> tuple[Floats, Floats] | None:
        """The mean ``[S]`` and the principal directions ``[3, S]`` of states, at the last site, of some emulators on
        the inputs that the run has kept: the same for every θ. None where states are no vectors over time.
        """
        if not self._has_axes:
            self._axes, self._has_axes = self._find_axes(), True
        return self._axes

    def _find_axes(self) -> tuple[Floats, Floats] | None:
        fit = self.fit
        if fit.probes is None or not fit.probes.is_sequence or len(fit.emulator.meta_model.state_shapes[-1]) != 1:
            return None
        numbers = np.unique(np.linspace(0, len(fit.names) - 1, min(AXES_MODELS, len(fit.names))).round().astype(int))
        names = [fit.names[number] for number in numbers]
        found = Emulated(fit.emulator, fit.theta[numbers], fit.probes[:AXES_INPUTS], names)
        states = np.concatenate(
            [block.real(block.states[-1]).flatten(0, 1).double().numpy() for block in found.blocks()]
        )
        mean = states.mean(0)
        _, directions = np.linalg.eigh((states - mean).T @ (states - mean))
        axes = np.zeros((3, states.shape[1]))
        kept = directions.T[::-1][:3]
        axes[: len(kept)] = kept
        return mean, axes

    # Points with names

    @cached_property
    def run_path(self) -> str:
        """The run folder as lines of Python name it."""
        return str(self.folder.resolve())

    def name(self, table: Mapping[str, Any]) -> Point:
        """Name a point and keep it: one θ, or the mean θ of several base models under ``models``.

        Raises:
            DynamoError: the name or the θ cannot be, base models of several heads, or the disk refuses.
        """
        name, models = str(read_text(table, "name")), read_names(table, "models", 10**6)
        if models:
            numbers = [self._number(one) for one in models]
            groups = {self.fit.emulator.group_of(number) for number in numbers}
            head = read_text(table, "head", needed=False) or (groups.pop() if len(groups) == 1 else None)
            theta: list[float] | str = self.fit.theta[numbers].mean(0).tolist()
            theta, head = self.at({"theta": theta, **({"head": head} if head else {})})
        else:
            theta, head = self.at(table)
        point = Point(name, tuple(self.theta_of(theta).tolist()), head, tuple(models), read_place(table))
        self.points.add(point)
        return point

    def exported(self, name: str) -> bytes:
        """A point's network as a file of safetensors: ``theta``, and the weights of meta-model and head.

        Raises:
            DynamoError: there is no such point.
        """
        point = self.points.get(name)
        model = self.fit.model_at(list(point.theta), point.head)
        return tensors_to_bytes(model.state_dict())

    def lines(self, name: str) -> str:
        """The lines of Python that load such a file."""
        point = self.points.get(name)
        return (
            "from safetensors.torch import load_file\n"
            "from dynamo import Fit\n\n"
            f"tensors = load_file({file_name(name)!r})\n"
            f"model = Fit.load({self.run_path!r}).model_at(tensors['theta'], head={point.head!r})\n"
            "model.load_state_dict(tensors)  # the same network, also if the run is fitted anew\n"
        )


def file_name(name: str) -> str:
    """A name for a file from that of a point: letters, numbers and ``-_.`` alone."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in name)
    return f"{kept[:60]}.safetensors"

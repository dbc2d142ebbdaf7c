"""What else a few labels could do: choose, average, fine-tune or read out the base models (for section 4.3)."""

from collections.abc import Sequence
from copy import deepcopy

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.networks.labels import has_classes, stopping_point
from dynamo.analysis.networks.task import Task, answer_count, answers
from dynamo.contracts.data import Examples
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.population.scores import task_loss, task_score
from dynamo.system.devices import device_of
from dynamo.system.progress import Progress, silent

#: Learning rate of Adam on all weights of a base model: the base models' own (Table 1).
FINE_TUNING_RATE = 1e-3
#: Inverse strengths of the penalty of the linear probe, of which cross-validation chooses.
PROBE_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)

Splits = Sequence[Sequence[tuple[Tensor, Tensor]]]


@attrs.frozen(eq=False)
class Baseline:
    """A method's test score on each draw ``[D]``, or the reason why there is none."""

    name: str
    scores: Floats | None
    note: str = ""

    __repr__ = brief


def baselines(
    task: Task,
    rows: Sequence[Tensor],
    splits: Splits,
    *,
    steps: int,
    progress: Progress = silent,
) -> list[Baseline]:
    """Every baseline on the same draws of labels and the same test data.

    Args:
        task: the task; ``rows`` and ``splits`` are rows of its labelled examples.
        rows: the labels of each draw.
        splits: their folds.
        steps: the most steps of fine-tuning.
        progress: called with (draws, draws).
    """
    pool, test = task.labelled, task.dataset.test
    on_pool, on_test = ([answers(base.model, part.inputs) for base in task.models] for part in (pool, test))
    alone = np.array([_score(task, outputs, test) for outputs, _ in on_test])
    picked = [pick(task, [outputs for outputs, _ in on_pool], chosen) for chosen in rows]
    oracle, draws = int(alone.argmax()), len(rows)
    probe_reason = "" if has_classes(task.space) else f"it needs one class an example; the task is {task.space}"
    probes, tuned, points = [], [], []
    for draw, (best, split) in enumerate(zip(picked, splits, strict=True)):
        score, point = fine_tuned(task, task.models[best].model, split, steps=steps)
        tuned.append(score)
        points.append(point)
        if not probe_reason:
            states = (on_pool[best][1], on_test[best][1])
            probes.append(linear_probe(states[0], pool.labels, split, test_states=states[1], test_targets=test.labels))
        progress(draw + 1, draws)
    names = ", ".join(dict.fromkeys(task.names[best] for best in picked))
    return [
        Baseline("best base model by the labels", alone[picked], names),
        Baseline("fine-tuned, all weights", np.array(tuned), f"the same, {min(points)} to {max(points)} steps"),
        Baseline("linear probe", np.array(probes) if probes else None, probe_reason or "on the same"),
        Baseline("ensemble of base models", np.full(draws, _ensemble(task, [out for out, _ in on_test])), "no labels"),
        Baseline("best base model by test (oracle)", np.full(draws, alone[oracle]), task.names[oracle]),
    ]


def pick(task: Task, outputs: Sequence[Tensor], rows: Tensor) -> int:
    """The base model with the best score on some labelled examples; among equals, that with the least loss.

    Args:
        task: the task.
        outputs: each base model's on all labelled examples.
        rows: the labelled examples.
    """
    part = task.labelled[rows]
    ranked = [
        (_score(task, out[rows], part), -float(task_loss(out[rows], part.labels, part.inputs.mask, task.space)))
        for out in outputs
    ]
    return max(range(len(ranked)), key=ranked.__getitem__)


def fine_tuned(
    task: Task, model: DynamicalModel, split: Sequence[tuple[Tensor, Tensor]], *, steps: int
) -> tuple[float, int]:
    """The test score of a base model whose weights were all trained on some labels, and the number of steps.

    Adam on all labels at every step, without dropout and with batch-norm statistics as they are, so that nothing is
    random. The number of steps is chosen as for θ: by cross-validation.

    Args:
        task: the task.
        model: the base model; it is copied.
        split: the folds of the labels.
        steps: the most steps.
    """
    folds = [_tune(task, model, learn, check, steps)[1] for learn, check in split]
    point, _ = stopping_point(np.array(folds), [len(check) for _, check in split])
    everything = torch.cat([check for _, check in split])
    tuned, _ = _tune(task, model, everything, torch.arange(0), point)
    return _score(task, answers(tuned, task.dataset.test.inputs)[0], task.dataset.test), point


def linear_probe(
    states: Tensor,
    targets: Tensor,
    split: Sequence[tuple[Tensor, Tensor]],
    *,
    test_states: Tensor,
    test_targets: Tensor,
) -> float:
    """The test accuracy of a logistic regression on standardised states; its penalty is chosen by cross-validation.

    Args:
        states: of all labelled examples, ``[B, S]``.
        targets: their classes.
        split: the folds of the labels.
        test_states, test_targets: of the test examples.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = torch.cat([check for _, check in split])
    folds = np.repeat(np.arange(len(split)), [len(check) for _, check in split])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    search = GridSearchCV(probe, {"logisticregression__C": PROBE_STRENGTHS}, cv=PredefinedSplit(folds))
    search.fit(states[rows].numpy(), targets[rows].numpy())
    return float(search.score(test_states.numpy(), test_targets.numpy()))


def _tune(task: Task, model: DynamicalModel, learn: Tensor, check: Tensor, steps: int) -> tuple[DynamicalModel, Floats]:
    """A copy of a model after some steps of Adam, and its loss on ``check`` after each number of steps."""
    tuned = deepcopy(model).eval().requires_grad_(True)
    optimizer = torch.optim.Adam(tuned.parameters(), lr=FINE_TUNING_RATE)
    checks = []
    for step in range(steps + 1):
        with torch.no_grad():
            checks.append(_loss(task, tuned, check) if len(check) else float("nan"))
        if step == steps:
            break
        optimizer.zero_grad(set_to_none=True)
        if not np.isfinite(_loss(task, tuned, learn)):
            raise DynamoError(f"fine-tuning gives a loss that is not finite after {step} steps")
        optimizer.step()
    return tuned.requires_grad_(False), np.array(checks)


def _loss(task: Task, model: DynamicalModel, rows: Tensor, batch_size: int = 512) -> float:
    """The task loss on some labelled examples, in batches; with gradients on, they are added to the weights'."""
    device, total, whole = device_of(model), 0.0, answer_count(task.labelled, rows, task.space)
    for some in torch.split(rows, batch_size):
        weight = answer_count(task.labelled, some, task.space) / whole
        inputs = task.labelled.inputs[some].to(device)
        # cuDNN has no backward pass for recurrent layers in eval mode; elsewhere the switch does nothing.
        with torch.backends.cudnn.flags(enabled=False):
            outputs = model.trajectory(inputs).at_readout(task.space.readout)
            targets = task.labelled.labels[some].to(device)
            loss = weight * task_loss(outputs, targets, inputs.mask, task.space)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _ensemble(task: Task, outputs: Sequence[Tensor]) -> float:
    """The score of the mean of the base models' probabilities (of their outputs, where they are real)."""
    parts = torch.stack([out.softmax(-1) if task.space.kind == "classes" else out for out in outputs])
    return _score(task, parts.mean(0), task.dataset.test)


def _score(task: Task, outputs: Tensor, examples: Examples) -> float:
    return task_score(outputs, examples.labels, examples.inputs.mask, task.space)

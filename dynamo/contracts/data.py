"""Data sets: labelled examples, and the split into a half that trains base models and an unlabelled half that trains
the meta-model.
"""

import hashlib

import attrs
import torch
from torch import Tensor

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import LARGEST, InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, check_inputs


@attrs.frozen(eq=False)
class Examples:
    """Inputs with their targets.

    Attributes:
        inputs: the inputs, ``len(inputs)`` examples.
        targets: classes ``[B]`` (or ``[B, T]`` with readout ``every``) as int64; real targets ``[B, K]`` (or
        K]``).

    Example:
        >>> from dynamo import Examples, Inputs
        >>> inputs = Inputs(torch.zeros(4, 5, 3), torch.ones(4, 5, dtype=torch.bool))
        >>> len(Examples(inputs, torch.tensor([0, 1, 1, 0]))[:3])
        3
    """

    inputs: Inputs
    targets: Tensor

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: Tensor | slice) -> "Examples":
        return Examples(self.inputs[rows], self.targets[rows])


@attrs.frozen(eq=False)
class Dataset:
    """A task: training and test examples with the spaces that they live in.

    Attributes:
        inputs: the input space.
        outputs: the output space.
        train: labelled examples; :meth:`halves` splits them.
        test: examples that nobody trains on; fidelity and accuracy are measured here.
        tokens: the words behind the ids, where inputs are tokens.

    Example:
        >>> from dynamo import component
        >>> task = component("dataset", "flip-flop").make({"bits": 2, "train_size": 10, "test_size": 4})
        >>> str(task.inputs), str(task.outputs), len(task.train), len(task.test)
        ('real input of shape (2,)', '2 real outputs (flip-flop)', 10, 4)
        >>> labelled, unlabelled = task.halves()
        >>> len(labelled), len(unlabelled)
        (5, 5)
    """

    inputs: InputSpace
    outputs: OutputSpace
    train: Examples
    test: Examples
    tokens: tuple[str, ...] = ()

    __repr__ = brief

    def check(self, name: str) -> None:
        """Check the examples against the spaces.

        Raises:
            InvalidValueError: spaces of absurd size, what :func:`dynamo.contracts.trajectory.check_inputs` finds, or
                targets that do not fit the output space.
        """
        for what, size in (("an input", self.inputs.size), ("an output", self.outputs.size)):
            if size > LARGEST:
                raise InvalidValueError(
                    f"data set {name!r} has {what} of size {size:,}; {LARGEST:,} is the most: number words and classes "
                    "from 0 on"
                )
        for part, examples in (("train", self.train), ("test", self.test)):
            where = f"data set {name!r} ({part})"
            check_inputs(
                examples.inputs, where=where, vocabulary=self.inputs.size if self.inputs.kind == "tokens" else None
            )
            targets, (count, steps) = examples.targets, examples.inputs.mask.shape
            wanted = (count, steps) if self.outputs.readout == "every" else (count,)
            if self.outputs.kind == "real":
                wanted = (*wanted, self.outputs.size)
            if tuple(targets.shape) != wanted:
                raise InvalidValueError(
                    f"{where} has targets of shape {tuple(targets.shape)}; its output space asks for {wanted}"
                )
            if self.outputs.kind == "real" and not bool(targets.isfinite().all()):
                raise InvalidValueError(f"{where} has targets that are NaN or infinite")
            if self.outputs.kind == "classes" and not (
                0 <= int(targets.min()) <= int(targets.max()) < self.outputs.size
            ):
                raise InvalidValueError(f"{where} has classes outside 0 to {self.outputs.size - 1}")

    def halves(self, seed: int = 0) -> tuple[Examples, Inputs]:
        """The training examples in two (section 4): one half for base models, the other, without labels, for the
        meta-model.

        The first half comes in a fixed random order, so that ``half[:k]`` is the same subset for every model trained
        on it and smaller fractions are contained in larger ones.

        Raises:
            InvalidValueError: fewer than two training examples.
        """
        if len(self.train) < 2:
            raise InvalidValueError(
                f"a data set needs at least 2 training examples to be split in halves; this one has {len(self.train)}"
            )
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        middle = len(order) // 2
        return self.train[order[:middle]], self.train.inputs[order[middle:].sort().values]

    @property
    def probe_size(self) -> int:
        """How many examples the unlabelled half has."""
        return len(self.train) - len(self.train) // 2

    def fingerprint(self) -> str:
        """A digest of all examples, kept in run folders so that a changed data set is noticed."""
        digest = hashlib.sha256(repr((self.inputs, self.outputs)).encode())
        for examples in (self.train, self.test):
            for tensor in (examples.inputs.values, examples.inputs.mask, examples.targets):
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

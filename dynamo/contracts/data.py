"""Data sets: examples with or without labels, and which of them train base models and which the meta-model."""

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
    """Inputs, with their targets where these are known.

    Attributes:
        inputs: the inputs, ``len(inputs)`` examples.
        targets: classes ``[B]`` (or ``[B, T]`` with readout ``every``) as int64; real targets ``[B, K]`` (or
            ``[B, T, K]``). None where there are no labels: then nothing can be scored.

    Example:
        >>> from dynamo import Examples, Inputs
        >>> inputs = Inputs(torch.zeros(4, 5, 3), torch.ones(4, 5, dtype=torch.bool))
        >>> len(Examples(inputs, torch.tensor([0, 1, 1, 0]))[:3])
        3
    """

    inputs: Inputs
    targets: Tensor | None = None

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: Tensor | slice) -> "Examples":
        return Examples(self.inputs[rows], None if self.targets is None else self.targets[rows])

    @property
    def labels(self) -> Tensor:
        """The targets, for what cannot do without.

        Raises:
            InvalidValueError: there are none.
        """
        if self.targets is None:
            raise InvalidValueError("this needs labels; this population has none: give its data set targets")
        return self.targets


@attrs.frozen(eq=False)
class Dataset:
    """A task: training and test examples with the spaces that they live in.

    Attributes:
        inputs: the input space.
        outputs: the output space; None where no task is described: then models of any outputs may have this data set.
        train: examples to train on; :meth:`halves` splits them.
        test: examples that nobody trains on; fidelity and accuracy are measured here.
        tokens: the words behind the ids, where inputs are tokens.
        only_probes: whether all training examples serve the meta-model, since the networks were trained elsewhere; see
            :meth:`of_probes`.
        encoding: what the encoding is called that the meta-model reads, where the examples come in others too; see
            :class:`dynamo.Encoding`.

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
    outputs: OutputSpace | None
    train: Examples
    test: Examples
    tokens: tuple[str, ...] = ()
    only_probes: bool = False
    encoding: str = "shared"

    @classmethod
    def of_probes(
        cls,
        inputs: InputSpace,
        probes: Inputs,
        outputs: OutputSpace | None = None,
        targets: Tensor | None = None,
        *,
        held_out: float = 0.2,
        seed: int = 0,
        tokens: tuple[str, ...] = (),
    ) -> "Dataset":
        """Data for networks that were trained elsewhere: all inputs serve the meta-model, but for some that are held
        out to measure fidelity.

        Args:
            inputs: the input space.
            probes: B inputs, at least 2.
            outputs: the output space of the task; None where models of any outputs may share the data.
            targets: the labels of the inputs, for scores; all else works without.
            held_out: the fraction of the inputs that is held out, at least :data:`FEW` of them (or half, of fewer than
                twice as many); see :func:`split_probes`.
            seed: of the draw of those.
            tokens: the words behind the ids.

        Raises:
            InvalidValueError: fewer than two inputs, a fraction outside (0, 1), or targets without an output space or
                of another number than the inputs.

        Example:
            >>> from dynamo import Dataset, Inputs, InputSpace
            >>> probes = Inputs(torch.randn(50, 7, 3), torch.ones(50, 7, dtype=torch.bool))
            >>> data = Dataset.of_probes(InputSpace("real", (3,)), probes)
            >>> len(data.probes()), len(data.test)
            (40, 10)
        """
        if targets is not None and outputs is None:
            raise InvalidValueError("targets need an output space: say whether they are classes or real numbers")
        if targets is not None and len(targets) != len(probes):
            raise InvalidValueError(f"there are {len(probes)} inputs and {len(targets)} targets")
        examples = Examples(probes, targets)
        kept, tested = split_probes(len(probes), held_out, seed)
        return cls(inputs, outputs, examples[kept], examples[tested], tokens, only_probes=True)

    @property
    def encodings(self) -> dict[str, InputSpace]:
        """The other encodings that the examples come in: name and input space."""
        return {name: encoding.space for name, encoding in self.train.inputs.encodings.items()}

    def read_as(self, encoding: str) -> "Dataset":
        """The same examples and targets in another encoding, whose tokens are not known by name.

        Raises:
            InvalidValueError: they do not come in it.
        """
        train, test = (Examples(part.inputs.read_as(encoding).inputs, part.targets) for part in (self.train, self.test))
        return attrs.evolve(self, inputs=self.encodings[encoding], train=train, test=test, tokens=(), encoding=encoding)

    @property
    def task(self) -> OutputSpace:
        """The output space, for what cannot do without.

        Raises:
            InvalidValueError: the data set describes no task.
        """
        if self.outputs is None:
            raise InvalidValueError("this needs a task; the data set has inputs alone: give it outputs and targets")
        return self.outputs

    __repr__ = brief

    def check(self, name: str) -> None:
        """Check the examples against the spaces.

        Raises:
            InvalidValueError: spaces of absurd size, what :func:`dynamo.contracts.trajectory.check_inputs` finds, or
                targets that do not fit the output space.
        """
        for what, size in (("an input", self.inputs.size), ("an output", self.outputs.size if self.outputs else 1)):
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
            found = {kind: encoding.space for kind, encoding in examples.inputs.encodings.items()}
            if found != self.encodings:
                raise InvalidValueError(
                    f"{where} comes in other encodings than the training examples, or in other spaces"
                )
            for kind, encoding in examples.inputs.encodings.items():
                encoding.check(examples.inputs.mask, where=f"{where}, encoding {kind!r}")
            if examples.targets is not None:
                _check_targets(examples.targets, examples.inputs.mask.shape, self.task, where)

    def halves(self, seed: int = 0) -> tuple[Examples, Inputs]:
        """The training examples in two (section 4): one half for base models, the other, without labels, for the
        meta-model. What trains the meta-model in any case is :meth:`probes`.

        The first half comes in a fixed random order, so that ``half[:k]`` is the same subset for every model trained
        on it and smaller fractions are contained in larger ones.

        Raises:
            InvalidValueError: fewer than two training examples, or all of them serve the meta-model.
        """
        if self.only_probes:
            raise InvalidValueError(
                "all examples of this data set serve the meta-model, since its networks were trained elsewhere: there "
                "is no half to train base models on"
            )
        if len(self.train) < 2:
            raise InvalidValueError(
                f"a data set needs at least 2 training examples to be split in halves; this one has {len(self.train)}"
            )
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        middle = len(order) // 2
        return self.train[order[:middle]], self.train.inputs[order[middle:].sort().values]

    def probes(self) -> Inputs:
        """The inputs on which base models are recorded, to train the meta-model: the unlabelled half of the training
        examples, or all where :attr:`only_probes` says so.

        Raises:
            InvalidValueError: fewer than two training examples to halve.
        """
        return self.train.inputs if self.only_probes else self.halves()[1]

    @property
    def probe_size(self) -> int:
        """How many inputs :meth:`probes` has."""
        return len(self.train) if self.only_probes else len(self.train) - len(self.train) // 2

    def fingerprint(self) -> str:
        """A digest of all examples, kept in run folders so that a changed data set is noticed."""
        digest = hashlib.sha256(repr((self.inputs, self.outputs)).encode())
        if self.only_probes:
            digest.update(b"only probes")
        for examples in (self.train, self.test):
            tensors = [examples.inputs.values, examples.inputs.mask, examples.targets]
            for name, encoding in examples.inputs.encodings.items():
                digest.update(repr((name, encoding.space)).encode())
                tensors += [encoding.inputs.values, encoding.inputs.mask, encoding.steps]
            for tensor in tensors:
                digest.update(b"none" if tensor is None else tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


#: The fewest inputs that are held out to measure fidelity, where there are twice as many.
FEW = 8


def split_probes(count: int, held_out: float = 0.2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Which of some inputs serve the meta-model, and which are held out to measure fidelity.

    Args:
        count: B, at least 2.
        held_out: the fraction that is held out, in (0, 1); at least :data:`FEW`, or half of fewer than twice as many.
        seed: of the draw.

    Returns:
        The rows of both, each in ascending order.

    Raises:
        InvalidValueError: fewer than two inputs, or a fraction outside (0, 1).

    Example:
        >>> from dynamo.contracts import split_probes
        >>> kept, tested = split_probes(100)
        >>> len(kept), len(tested)
        (80, 20)
    """
    if not 0 < held_out < 1:
        raise InvalidValueError(f"the fraction that is held out must be above 0 and below 1, not {held_out}")
    if count < 2:
        raise InvalidValueError(f"{count} inputs are too few: one serves the meta-model, one measures its fidelity")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    tested = min(count - 1, max(round(held_out * count), min(FEW, count // 2)))
    return order[tested:].sort().values, order[:tested].sort().values


def _check_targets(targets: Tensor, steps: torch.Size, space: OutputSpace, where: str) -> None:
    """Raise where targets do not fit an output space; ``steps`` is the shape of the mask."""
    wanted = tuple(steps) if space.readout == "every" else tuple(steps[:1])
    if space.kind == "real":
        wanted = (*wanted, space.size)
    if tuple(targets.shape) != wanted:
        raise InvalidValueError(
            f"{where} has targets of shape {tuple(targets.shape)}; its output space asks for {wanted}"
        )
    if space.kind == "real" and not bool(targets.isfinite().all()):
        raise InvalidValueError(f"{where} has targets that are NaN or infinite")
    if space.kind == "classes" and not 0 <= int(targets.min()) <= int(targets.max()) < space.size:
        raise InvalidValueError(f"{where} has classes outside 0 to {space.size - 1}")

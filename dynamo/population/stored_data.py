"""Data sets that no component makes, kept in a population's folder: examples, spaces and words in a file of tensors."""

import json
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from dynamo.contracts.data import Dataset, Examples
from dynamo.contracts.encoding import Encoding
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import read_bytes
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo.system.storage import read_tensors, tensors_to_bytes

#: The tensor that holds what is no tensor, as the bytes of a JSON text.
_REST = "rest"
_PARTS = ("train", "test")


@attrs.frozen
class StoredData:
    """A data set in a file; its content is read when it is asked for.

    Attributes:
        path: the file.
        digest: its sha256.
    """

    path: Path
    digest: str

    def content(self) -> bytes:
        """The file's content.

        Raises:
            DynamoError: it is missing or changed.
        """
        return read_bytes(self.path, self.digest)

    def read(self) -> Dataset:
        """The data set.

        Raises:
            DynamoError: the file is missing, changed, or holds no data set.
        """
        tensors = read_tensors(self.path, self.digest)
        try:
            return _dataset(tensors)
        except (DynamoError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DynamoError(f"{self.path} holds no data set ({error!r})") from None


def data_to_bytes(dataset: Dataset) -> bytes:
    """A data set as a file of tensors, which :meth:`StoredData.read` reads."""
    rest: dict[str, Any] = {
        "inputs": dataset.inputs.table(),
        "outputs": None if dataset.outputs is None else dataset.outputs.table(),
        "tokens": list(dataset.tokens),
        "only_probes": dataset.only_probes,
    }
    if dataset.encodings:
        rest["encoding"] = dataset.encoding
        rest["encodings"] = {name: space.table() for name, space in dataset.encodings.items()}
    tensors = {_REST: torch.frombuffer(bytearray(json.dumps(rest).encode()), dtype=torch.uint8)}
    for part in _PARTS:
        examples: Examples = getattr(dataset, part)
        tensors[f"{part}.values"], tensors[f"{part}.mask"] = examples.inputs.values, examples.inputs.mask
        if examples.targets is not None:
            tensors[f"{part}.targets"] = examples.targets
        for number, encoding in enumerate(examples.inputs.encodings.values()):
            own = f"{part}.encoding-{number}"
            tensors[f"{own}.values"], tensors[f"{own}.mask"] = encoding.inputs.values, encoding.inputs.mask
            tensors[f"{own}.steps"] = encoding.steps
    return tensors_to_bytes(tensors)


def _dataset(tensors: dict[str, Tensor]) -> Dataset:
    rest: dict[str, Any] = json.loads(bytes(tensors[_REST].tolist()))
    spaces = {str(name): InputSpace.of(table) for name, table in rest.get("encodings", {}).items()}

    def inputs(part: str) -> Inputs:
        return Inputs(tensors[f"{part}.values"], tensors[f"{part}.mask"])

    def examples(part: str) -> Examples:
        encodings = {
            name: Encoding(space, inputs(f"{part}.encoding-{number}"), tensors[f"{part}.encoding-{number}.steps"])
            for number, (name, space) in enumerate(spaces.items())
        }
        return Examples(attrs.evolve(inputs(part), encodings=encodings), tensors.get(f"{part}.targets"))

    train, test = map(examples, _PARTS)
    if not isinstance(rest["only_probes"], bool) or not all(isinstance(word, str) for word in rest["tokens"]):
        raise ValueError("its description is damaged")
    outputs = None if rest["outputs"] is None else OutputSpace.of(rest["outputs"])
    known: tuple[Any, ...] = tuple(rest["tokens"]), rest["only_probes"]
    known += (str(rest["encoding"]),) if spaces else ()
    return Dataset(InputSpace.of(rest["inputs"]), outputs, train, test, *known)

"""Data sets that no component makes, kept in a population's folder: examples, spaces and words in a file of tensors."""

import json
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from dynamo.contracts.data import Dataset, Examples
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
        except (DynamoError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DynamoError(f"{self.path} holds no data set ({error!r})") from None


def data_to_bytes(dataset: Dataset) -> bytes:
    """A data set as a file of tensors, which :meth:`StoredData.read` reads."""
    rest = {
        "inputs": dataset.inputs.table(),
        "outputs": None if dataset.outputs is None else dataset.outputs.table(),
        "tokens": list(dataset.tokens),
        "only_probes": dataset.only_probes,
    }
    tensors = {_REST: torch.frombuffer(bytearray(json.dumps(rest).encode()), dtype=torch.uint8)}
    for part in _PARTS:
        examples: Examples = getattr(dataset, part)
        tensors[f"{part}.values"], tensors[f"{part}.mask"] = examples.inputs.values, examples.inputs.mask
        if examples.targets is not None:
            tensors[f"{part}.targets"] = examples.targets
    return tensors_to_bytes(tensors)


def _dataset(tensors: dict[str, Tensor]) -> Dataset:
    rest: dict[str, Any] = json.loads(bytes(tensors[_REST].tolist()))
    train, test = (
        Examples(Inputs(tensors[f"{part}.values"], tensors[f"{part}.mask"]), tensors.get(f"{part}.targets"))
        for part in _PARTS
    )
    if not isinstance(rest["only_probes"], bool) or not all(isinstance(word, str) for word in rest["tokens"]):
        raise ValueError("its description is damaged")
    outputs = None if rest["outputs"] is None else OutputSpace.of(rest["outputs"])
    return Dataset(InputSpace.of(rest["inputs"]), outputs, train, test, tuple(rest["tokens"]), rest["only_probes"])

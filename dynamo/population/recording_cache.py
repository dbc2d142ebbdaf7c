"""A folder of recordings that several fits have in common, so that a base model is recorded once and not by each.

A recording is known by all that it depends on: the model's weights and architecture, the data, the precision, the kind
of device, and the versions of this package and of torch. Files are written whole or not at all and compared with their
checksums, so that fits may use one folder at a time, and may be killed.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from time import time

import attrs
import torch

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import PARTIAL, make_folder, read_bytes, sha256, unwritable, write_bytes
from dynamo.contracts.trajectory import Trajectory
from dynamo.population.base_model import BaseModel
from dynamo.registry import full_spec
from dynamo.system.storage import tensors_to_bytes
from dynamo.version import __version__

#: After so many seconds a file that is still half-written is nobody's.
ABANDONED = 24 * 3600

#: How the files' names end.
SUFFIX = ".recording"


@attrs.define
class RecordingCache:
    """Recordings in a folder, up to a size: those that have not been used for longest give way.

    Attributes:
        folder: where they are.
        most: bytes that they may take; an eighth more, while a fit is recording.

    Raises:
        DynamoError: the folder cannot be written.
    """

    folder: Path
    most: int
    _written: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            make_folder(self.folder)
        except OSError as error:
            raise unwritable(self.folder, error) from None

    def key(self, base: BaseModel, data: str, precision: str, device: torch.device | None) -> str | None:
        """What a base model's recording depends on, as one text; None where that is not known, of a live network, and
        of a recording, which needs none.

        Args:
            base: the base model.
            data: the fingerprint of its data set.
            precision: of the recorded states.
            device: where it is recorded.
        """
        if base.architecture is None or not base.is_stored:
            return None
        parts = [
            base.fingerprint,
            full_spec("architecture", base.architecture).table(),
            base.inputs.table(),
            base.outputs.table(),
            str(base.reading),
            data,
            precision,
            "cpu" if device is None else device.type,
            __version__,
            torch.__version__,
        ]
        return sha256(json.dumps(parts, sort_keys=True, default=str).encode())

    def read(self, key: str) -> Trajectory | None:
        """The recording of that key; None where there is none, or it is damaged."""
        from safetensors.torch import load

        path = self.folder / f"{key}{SUFFIX}"
        try:
            content = read_bytes(path, within=self.folder)
            if sha256(content[64:]).encode() != content[:64]:
                return None
            os.utime(path)
        except (DynamoError, OSError):  # another fit may take it away at any time
            return None
        tensors = load(content[64:])
        states = tuple(tensors[f"states.{site}"] for site in range(len(tensors) - 2))
        return Trajectory(states, tensors["outputs"], tensors["mask"])

    def write(self, key: str, trajectory: Trajectory) -> None:
        """Keep a recording, if there is room for it at all.

        Raises:
            DynamoError: the disk refuses.
        """
        tensors = {f"states.{site}": state for site, state in enumerate(trajectory.states)}
        tensors |= {"outputs": trajectory.outputs, "mask": trajectory.mask}
        size = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
        if size > self.most:
            return
        content = tensors_to_bytes(tensors)
        write_bytes(self.folder / f"{key}{SUFFIX}", sha256(content).encode() + content)
        self._written += size
        if self._written > self.most // 8:
            self.trim()

    def trim(self) -> None:
        """Take away what has not been used for longest, down to the size, and what was left half-written by fits that
        were killed long ago.
        """
        self._written = 0
        for path in self.folder.glob(".dynamo-*"):
            with suppress(OSError):
                if PARTIAL.fullmatch(path.name) and time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):  # another fit has taken it away
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in found) - self.most
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            with suppress(OSError):
                path.unlink()
            excess -= size

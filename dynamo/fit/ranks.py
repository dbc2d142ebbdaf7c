"""How many processes share a fit, and who starts them."""

import os
from collections.abc import Mapping

import attrs
import torch

from dynamo.contracts.errors import DynamoError
from dynamo.population.population import Population
from dynamo.training.options import FitOptions


@attrs.frozen
class Ranks:
    """How many processes a fit has, and where they come from.

    Attributes:
        devices: processes on each machine, one for each device.
        nodes: machines.
        rank: the number of this process, where a launcher has started it; else None.
        local: its number on its machine.
    """

    devices: int = 1
    nodes: int = 1
    rank: int | None = None
    local: int = 0

    @property
    def size(self) -> int:
        """All processes."""
        return self.devices * self.nodes

    @classmethod
    def plan(
        cls, devices: int | None = None, nodes: int | None = None, environment: Mapping[str, str] = os.environ
    ) -> "Ranks":
        """The processes that are asked for.

        Args:
            devices: on each machine; where it is None, one, or as many as the launcher has started.
            nodes: machines; likewise.
            environment: where ``torchrun`` says what it has started.

        Raises:
            DynamoError: a launcher's variables are incomplete or say otherwise, or several machines without a launcher.
        """
        if "RANK" not in environment or "WORLD_SIZE" not in environment:
            if (nodes or 1) > 1:
                raise DynamoError(
                    f"a fit on {nodes} machines is started on each of them by torchrun: torchrun --nnodes {nodes} "
                    f"--nproc-per-node {devices or 1} --rdzv-backend c10d --rdzv-endpoint HOST:PORT "
                    "-m dynamo.cli fit POPULATION"
                )
            return cls(devices or 1)
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        missing = [name for name in names if name not in environment]
        if missing:
            raise DynamoError(
                f"RANK and WORLD_SIZE are set, as by torchrun, but not {', '.join(missing)}: set all of "
                f"{', '.join(names)}, or none"
            )
        rank, size, local, there = (_number(environment, name) for name in names[:4])
        if there < 1 or size % there or not (0 <= rank < size and 0 <= local < there):
            raise DynamoError(
                f"the launcher's variables do not fit together: RANK={rank}, WORLD_SIZE={size}, LOCAL_RANK={local}, "
                f"LOCAL_WORLD_SIZE={there}; every machine must have as many processes"
            )
        if (devices or there) != there or (nodes or size // there) != size // there:
            raise DynamoError(
                f"torchrun has started {there} processes on each of {size // there} machines, not {devices or there} "
                f"on each of {nodes or size // there}: leave --devices and --nodes out, or give these"
            )
        return cls(there, size // there, rank, local)

    def check(self, population: Population, options: FitOptions) -> None:
        """Raise a clear error where these processes cannot share this fit."""
        if self.size == 1:
            return
        if self.size > len(population):
            raise DynamoError(
                f"{self.size} processes cannot share {len(population)} base models, of which each needs one of its "
                "own: lower --devices or --nodes"
            )
        drawn = min(options.models_per_step or len(population), len(population))
        if drawn < self.size:
            raise DynamoError(
                f"with {drawn} models in a step (models_per_step) {self.size - drawn} of {self.size} processes would "
                f"be idle: raise models_per_step to {self.size} or more (none = all), or lower --devices"
            )
        self.device(options)

    def device(self, options: FitOptions) -> str:
        """The device of this process.

        Raises:
            DynamoError: there are not as many.
        """
        name = options.device
        if self.size == 1 or name == "cpu":
            return name
        if name != "cuda":
            raise DynamoError(
                f"{self.devices} processes cannot share the device {name!r}: give --device cuda (each has one of its "
                "own) or cpu"
            )
        count = torch.cuda.device_count()
        if count == 1 and self.rank is not None:
            return "cuda:0"  # launchers as Slurm's show each process the one that is its own
        if count < self.devices:
            raise DynamoError(f"--devices {self.devices}: there are {count} CUDA devices here")
        return f"cuda:{self.local}"


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise DynamoError(
            f"the environment variable {name} must be a whole number, not {environment[name]!r}"
        ) from None

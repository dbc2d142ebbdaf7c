"""Algorithm 1 for residual networks in plain PyTorch, and how faithful a fit is; see ``speed_images.py``."""

from collections.abc import Callable
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynamo import Inputs, Population, Trainer
from dynamo.population.scores import unexplained_share
from dynamo.system.allocator import keep_freed_memory
from dynamo.training import optimisation
from dynamo_resnet.residual import ResidualNetwork, run_shifted, stages

#: Called with a model's number and images; gives the mapped states of each site and the outputs.
Emulate = Callable[[int, Tensor], tuple[list[Tensor], Tensor]]

THETA_DIM, LAYERS, WIDTH, BATCH = 16, (1, 1, 1), 16, 128


class Plain(nn.Module):
    """Algorithm 1 for residual networks and nothing else."""

    def __init__(self, population: Population, optimizer: str, rate: float, steps: int, seed: int) -> None:
        super().__init__()
        keep_freed_memory()  # as the trainer does
        torch.manual_seed(seed)
        self.population, self.rate, self.steps = population, rate, steps
        self.probes = population.dataset(population[0]).halves()[1].values
        self.network = ResidualNetwork(self.probes.shape[1], "basic", LAYERS, WIDTH, "small")
        widths = [WIDTH * 2**stage for stage in range(len(LAYERS))]
        self.shifts = nn.ModuleList(nn.Linear(THETA_DIM, width, bias=False) for width in widths)
        self.head = nn.Linear(widths[-1], population[0].model.outputs.size)
        self.maps = nn.ModuleList(
            nn.ModuleList(
                nn.Conv2d(width, shape[0], 1) for width, shape in zip(widths, base.model.state_shapes, strict=True)
            )
            for base in population
        )
        self.thetas = nn.ParameterList(torch.zeros(THETA_DIM) for _ in population)
        if optimizer == "sgd":
            made: Any = torch.optim.SGD(self.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
        else:
            made = torch.optim.AdamW(self.parameters(), rate, weight_decay=1e-4, fused=True)
        self.optimizer: torch.optim.Optimizer = made

    def emulate(self, number: int, images: Tensor) -> tuple[list[Tensor], Tensor]:
        network: Any = self.network
        x, states = network.relu(network.bn1(network.conv1(images))), []
        for stage, shift, state_map in zip(stages(network), self.shifts, self.maps[number], strict=True):
            for block in stage:
                x = run_shifted(block, x, shift(self.thetas[number]).expand(len(x), -1))
            states.append(state_map(x))
        return states, self.head(x.mean((-2, -1)))

    def advance(self, step: int) -> None:
        number = int(torch.randint(len(self.thetas), ()))
        images = self.probes[torch.randint(len(self.probes), (BATCH,))]
        with torch.no_grad():
            base = self.population[number].model.trajectory(Inputs(images, torch.ones(BATCH, 1, dtype=torch.bool)))
        states, outputs = self.emulate(number, images)
        sites = [functional.mse_loss(state, true[:, 0]) for state, true in zip(states, base.states, strict=True)]
        wanted = base.outputs[:, 0].log_softmax(-1)
        output = functional.kl_div(outputs.log_softmax(-1), wanted, reduction="batchmean", log_target=True)
        loss = torch.stack(sites).mean() + output
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = self.rate * optimisation.cosine_7_32(step, self.steps)
        self.optimizer.step()


@torch.no_grad()
def quality(population: Population, emulate: Emulate) -> tuple[float, float]:
    """Mean hidden R² over models and sites, and mean agreement, on test data."""
    test = population.dataset(population[0]).test.inputs
    errors, agreements = [], []
    for number, base in enumerate(population):
        wanted, (states, outputs) = base.model.trajectory(test), emulate(number, test.values)
        pairs = zip(states, wanted.states, strict=True)
        errors += [float(unexplained_share(state.flatten(1), true.flatten(1))) for state, true in pairs]
        agreements.append(float((outputs.argmax(-1) == wanted.outputs[:, 0].argmax(-1)).float().mean()))
    return 1 - mean(errors), mean(agreements)


def emulation(trainer: Trainer) -> Emulate:
    emulator = trainer.emulator

    def emulate(number: int, images: Tensor) -> tuple[list[Tensor], Tensor]:
        inputs = Inputs(images, torch.ones(len(images), 1, dtype=torch.bool))
        states = emulator.meta_model.states(inputs, emulator.thetas[number].expand(len(images), -1))
        mapped = [state_map(state)[:, 0] for state_map, state in zip(emulator.maps_of(number), states, strict=True)]
        return mapped, emulator.head_of(number)(emulator.meta_model.features(states))[:, 0]

    return emulate


def run_plain(*given: Any) -> Plain:
    plain = Plain(*given)
    for step in range(plain.steps):
        plain.advance(step)
    return plain.eval()

"""Fits to image models: options that only they have."""

import torch

from dynamo import FitOptions, Inputs, InputSpace, OutputSpace, Population, Trainer, Trajectory
from dynamo.contracts.data import Dataset, Examples
from dynamo.contracts.protocols import DynamicalModel
from dynamo.population.base_model import BaseModel
from dynamo.population.recording import Recording
from dynamo.registry import make

IMAGES, CLASSES = InputSpace("image", (3, 8, 8)), OutputSpace("classes", 4, "last", "toy")


def examples(count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 3, 8, 8, generator=generator)
    targets = torch.randint(4, (count,), generator=generator)
    return Examples(Inputs(values, torch.ones(count, 1, dtype=torch.bool)), targets)


def population() -> Population:
    data = Dataset(IMAGES, CLASSES, examples(32, 0), examples(16, 1))
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = make("architecture", "cifar-resnet:depth=8,width=4", DynamicalModel, IMAGES, CLASSES)
        models.append(BaseModel(f"m{seed}", model.eval().requires_grad_(False), data))
    return Population(models)


def fitted(steps: int = 4, **changes) -> Trainer:
    options = {
        "meta_model": "resnet:layers=1+1+1,width=4",
        "state_map": "conv",
        "hidden_divergence": "l2:reduction=mean",
        "theta_dim": 3,
        "models_per_step": None,
        "batch_size": 8,
        "steps": steps,
        **changes,
    }
    trainer = Trainer(population(), FitOptions(**options))
    trainer.run()
    return trainer


def test_channels_last_changes_the_layout_and_not_the_result():
    plain, last = fitted(), fitted(channels_last=True)
    weight = last.emulator.meta_model.network.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    for one, other in zip(plain.history, last.history, strict=True):
        torch.testing.assert_close(torch.tensor(other), torch.tensor(one), rtol=1e-4, atol=1e-5)


def test_augmented_images_reach_the_fit_by_live_base_models():
    plain, live = fitted(), fitted(recording="live")
    torch.testing.assert_close(torch.tensor(live.history), torch.tensor(plain.history), rtol=1e-4, atol=1e-5)
    weak = fitted(recording="live", augmentation="weak")
    assert abs(weak.history[0][2] - plain.history[0][2]) > 1e-6
    assert fitted(recording="live", augmentation="weak").history == weak.history


def test_block_outputs_of_equation_5_pull_the_states_together():
    apart, together = (fitted(30, block_outputs=value, learning_rate=0.01) for value in (False, True))

    def distance(trainer: Trainer) -> float:
        chosen, rows = trainer.draw(0)
        total = 0.0
        for number, row in zip(chosen, rows, strict=True):
            inputs, base = trainer.recordings[number].batch(row)
            theta = trainer.emulator.thetas[number].detach().expand(len(row), -1)
            with torch.no_grad():
                meta = trainer.emulator.meta_model.states(inputs, theta)
            total += sum(float((a - b).square().mean()) for a, b in zip(meta, base.states, strict=True))
        return total

    assert distance(together) < 0.8 * distance(apart)


def test_half_precision_recordings_change_the_loss_in_the_fourth_digit():
    plain, half = fitted(), fitted(recording_precision="float16")
    torch.testing.assert_close(torch.tensor(half.history), torch.tensor(plain.history), rtol=1e-3, atol=1e-3)
    assert half.history != plain.history


def test_gradients_of_the_objective_against_finite_differences():
    trainer = fitted(steps=2, block_outputs=True)
    trainer.emulator.double().train()
    trainer._recordings = [
        Recording(
            source.inputs.with_values(source.inputs.values.double()),
            Trajectory(
                tuple(state.double() for state in source.trajectory.states),
                source.trajectory.outputs.double(),
                source.trajectory.mask,
            ),
        )
        for source in trainer.recordings
    ]
    chosen, rows = trainer.draw(0)

    def loss() -> torch.Tensor:
        return trainer.loss(*trainer.losses(chosen, rows))

    trainer.emulator.zero_grad()
    loss().backward()
    network = trainer.emulator.meta_model.network
    checked = [
        *trainer.emulator.thetas,
        trainer.emulator.meta_model.shifts["8"].weight,
        network.layer2[0].conv2.weight,
        network.conv1.weight,
        trainer.emulator.maps_of(1)[2].map.weight,
        trainer.emulator.heads[0].map.weight,
    ]
    for parameter in checked:
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for entry in (0, len(flat) // 2, len(flat) - 1):
            before, values = float(flat[entry]), []
            for step in (1e-6, -1e-6):
                flat[entry] = before + step
                values.append(float(loss().detach()))
            flat[entry] = before
            slope = (values[0] - values[1]) / 2e-6
            assert abs(slope - float(gradient[entry])) < 1e-6 + 1e-5 * abs(slope)
    assert all(float(theta.grad.abs().max()) > 1e-6 for theta in trainer.emulator.thetas)

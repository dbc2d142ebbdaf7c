"""Fits to populations of image networks: base models left alone, what repeats, losses by hand (appendix A, B.1)."""

import numpy as np
import pytest
import torch
from torch import nn

from dynamo import Dataset, Examples, Fit, FitOptions, InputSpace, OutputSpace, Population, Trainer
from dynamo.fit.fidelity import measure_fidelity
from dynamo.population.recording import record
from dynamo.testing import example_inputs
from dynamo.training.presets import PRESETS
from dynamo_resnet.models import ResNet
from dynamo_resnet.residual import ResidualNetwork
from dynamo_resnet.taps import TappedModel

IMAGES, CLASSES = InputSpace("image", (3, 16, 16)), OutputSpace("classes", 4)
COUNT = 24
SMALL = {"meta_model": "resnet:layers=1+1+1,width=4", "state_map": "conv", "theta_dim": 3, "batch_size": 12}


def data():
    def part(seed):
        return Examples(example_inputs(IMAGES, batch=COUNT, seed=seed), torch.arange(COUNT) % 4)

    return Dataset(IMAGES, CLASSES, part(0), part(1))


def trained(module):
    """Batch normalisation as it is after training: statistics, scales and shifts are not the initial ones."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.running_var.uniform_(0.5, 1.5)
                part.bias.normal_(std=0.3)
                part.running_mean.normal_(std=0.3)
    return module


def resnet(seed=0, layers=(1, 1, 1), width=4, block="basic", stem="small"):
    torch.manual_seed(seed)
    network = trained(ResidualNetwork(3, block, list(layers), width, stem, 4))
    return ResNet(IMAGES, CLASSES, network).eval().requires_grad_(False)


def tapped(seed=0):
    torch.manual_seed(seed)
    network = trained(ResidualNetwork(3, "basic", [1, 1, 1], 4, "small", 4))
    return TappedModel(IMAGES, CLASSES, network, ["layer1.0", "layer2.0", "layer3.0"]).eval().requires_grad_(False)


def population(**models):
    return Population.of(models, data())


def trainer(models, **changes):
    return Trainer(models, FitOptions(**{**SMALL, "models_per_step": None, "steps": 3, **changes}))


def fit_of(models, **changes):
    made = trainer(models, **changes)
    made.run()
    return made


# --- base models are left alone


def everything(model):
    """All that a fit could change in a base model."""
    parts = dict(model.named_modules())
    return {
        "tensors": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "modes": {name: part.training for name, part in parts.items()},
        "frozen": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {name: parameter.grad is None for name, parameter in model.named_parameters()},
        "hooks": {
            name: [len(getattr(part, kind)) for kind in vars(part) if kind.endswith("_hooks")]
            for name, part in parts.items()
        },
    }


def assert_untouched(before, model):
    after = everything(model)
    for name, tensor in before.pop("tensors").items():
        assert torch.equal(tensor, after["tensors"][name]), name
    for kind, found in before.items():
        assert found == after[kind], kind


@pytest.mark.parametrize("make_model", [resnet, tapped])
@pytest.mark.parametrize("recording", ["memory", "disk", "live"])
def test_base_models_are_bit_identical_after_recording_and_a_whole_fit(recording, make_model, tmp_path):
    """Also running statistics, in networks of which some parts are in training mode and some parameters are free."""
    models = {"frozen": make_model(0), "free": make_model(1).requires_grad_(True).train()}
    models["free"].module.layer1.eval()
    models["free"].module.bn1.requires_grad_(False)
    models["free"].module.conv1.register_forward_hook(lambda module, taken, given: None)  # the user's own
    before = {name: everything(model) for name, model in models.items()}
    made = trainer(population(**models), recording=recording)
    made.record(tmp_path)
    made.run()
    measure_fidelity(Fit.of(made), made.population)
    for name, model in models.items():
        assert_untouched(before[name], model)


def test_a_recording_is_made_with_running_statistics_whatever_the_mode():
    model = resnet().train()
    (recording,) = record(population(a=model))
    with torch.no_grad():
        wanted = model.eval().trajectory(recording.inputs)
    for state, expected in zip(recording.trajectory.states, wanted.states, strict=True):
        torch.testing.assert_close(state, expected)


# --- what repeats


def test_two_fits_are_bit_identical_whatever_torchs_random_state():
    runs = []
    for noise in (1, 2):
        models = population(a=resnet(0), b=resnet(1, width=3))
        torch.manual_seed(noise)
        runs.append(fit_of(models, steps=4))
    one, other = runs
    assert one.history == other.history
    for name, tensor in one.emulator.state_dict().items():
        assert torch.equal(tensor, other.emulator.state_dict()[name]), name
    assert fit_of(population(a=resnet(0), b=resnet(1, width=3)), steps=4, seed=1).history != one.history


def test_models_that_share_a_batch_have_the_losses_that_they_have_alone():
    """In eval mode; in training batch normalisation averages over all images of a batch."""
    made = fit_of(population(a=resnet(0), b=resnet(1)), learning_rate=1e-2)
    rows = [torch.arange(5), torch.arange(4, 12)]
    together = made.losses([1, 0], rows)
    alone = [made.losses([number], [row]) for number, row in zip([1, 0], rows, strict=True)]
    for kind, losses in enumerate(together):
        for number, loss in enumerate(losses):
            torch.testing.assert_close(loss, alone[number][kind][0], rtol=1e-5, atol=1e-7)
    made.emulator.train()
    mixed, single = made.losses([1, 0], rows)[0][0], made.losses([1], rows[:1])[0][0]
    assert not torch.allclose(mixed, single, rtol=1e-3)


# --- losses by hand


def site_errors(made, rows):
    """V(h_θ) − h at each site as numpy arrays ``[B, C, H, W]``, by the definition of the map."""
    emulator, (recording,) = made.emulator, made.recordings
    inputs, target = recording.batch(rows)
    with torch.no_grad():
        states = emulator.meta_model.states(inputs, emulator.thetas[0].expand(len(rows), -1))
    errors = []
    for state, wanted, site in zip(states, target.states, emulator.maps_of(0), strict=True):
        matrix, bias = site.map.weight.detach()[:, :, 0, 0].numpy(), site.map.bias.detach().numpy()
        mapped = np.einsum("kc,bcij->bkij", matrix, state[:, 0].numpy()) + bias[:, None, None]
        errors.append(mapped - wanted[:, 0].numpy())
    return errors


@pytest.mark.parametrize(
    ("name", "of_one_site"),
    [
        ("l2:reduction=mean", lambda error: (error**2).mean((1, 2, 3))),
        ("l1:reduction=mean", lambda error: np.abs(error).mean((1, 2, 3))),
        ("l2", lambda error: (error**2).sum((1, 2, 3))),
        ("l1", lambda error: np.abs(error).sum((1, 2, 3))),
        ("l2:squared=false", lambda error: np.sqrt((error**2).sum((1, 2, 3)))),
    ],
)
def test_the_hidden_loss_by_hand(name, of_one_site):
    """With reduction mean it is averaged over channels and pixels (B.1); without, it is the norm of equation 6."""
    made = fit_of(population(a=resnet(width=3)), hidden_divergence=name)
    rows = torch.tensor([3, 0, 7])
    wanted = np.mean([of_one_site(error).mean() for error in site_errors(made, rows)])
    assert made.losses([0], [rows])[0][0].item() == pytest.approx(wanted, rel=1e-5)


def test_the_output_loss_is_the_divergence_of_the_classes():
    made = fit_of(population(a=resnet()))
    rows = torch.tensor([3, 0, 7])
    inputs, target = made.recordings[0].batch(rows)
    with torch.no_grad():
        guess = Fit.of(made).model_at("a")(inputs.values).double().softmax(1).numpy()
    p = target.outputs[:, 0].double().softmax(1).numpy()
    wanted = (p * np.log(p / guess)).sum(1).mean()
    assert made.losses([0], [rows])[1][0].item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_an_emulator_of_its_own_models_has_no_loss(block):
    """Base models that are the meta-model at two thetas: at those thetas, with V = 1, both losses are zero."""
    options = {"meta_model": f"resnet:layers=1+2,width=3,block={block}", "state_map": "conv:per_channel=true"}
    channels = 3 if block == "basic" else 12
    planted = fit_of(population(a=resnet(layers=(1, 1), width=channels)), **options).emulator
    trained(planted.meta_model)
    thetas = torch.randn(2, 3)
    made = trainer(population(a=planted.model_at(thetas[0]), b=planted.model_at(thetas[1])), **options)
    made.emulator.eval()

    def losses():
        """Hidden and output loss of both models, ``[2, 2]``."""
        return torch.stack(made.losses([0, 1], [torch.arange(6), torch.arange(6)]))

    assert (losses() > 1e-4).all()
    made.emulator.meta_model.load_state_dict(planted.meta_model.state_dict())
    made.emulator.heads.load_state_dict(planted.heads.state_dict())
    for own, theta in zip(made.emulator.thetas, thetas, strict=True):
        own.data = theta.clone()
    assert (losses() < 1e-10).all()
    made.emulator.thetas[0].data = thetas[1].clone()
    assert (losses()[:, 0] > 1e-6).all()
    assert (losses()[:, 1] < 1e-10).all()


# --- base models that differ


def test_one_meta_model_fits_networks_of_other_depths_widths_and_sizes(tmp_path):
    """Depths 8 and 14, other widths, a stem that quarters the images, and bottlenecks."""
    models = population(
        shallow=resnet(0),
        deep=resnet(1, layers=(2, 2, 2), width=6),
        quartered=resnet(2, stem="imagenet"),
        bottlenecks=resnet(3, block="bottleneck", width=2),
    )
    assert [base.model.state_shapes for base in models] == [
        ((4, 16, 16), (8, 8, 8), (16, 4, 4)),
        ((6, 16, 16), (12, 8, 8), (24, 4, 4)),
        ((4, 4, 4), (8, 2, 2), (16, 1, 1)),
        ((8, 16, 16), (16, 8, 8), (32, 4, 4)),
    ]
    made = trainer(models, hidden_divergence="l2:reduction=mean", steps=60, learning_rate=1e-2)
    fit = Fit.of(made)
    before = measure_fidelity(fit, models)
    made.run()
    after = measure_fidelity(Fit.of(made), models)
    for first, last in zip(before.models, after.models, strict=True):
        assert last.hidden_r2 > first.hidden_r2 + 0.2, last
    Fit.of(made).save(tmp_path / "run")
    assert measure_fidelity(Fit.load(tmp_path / "run"), models) == after


def test_a_meta_model_of_bottlenecks_fits_basic_blocks():
    """As ResNet-50 fits ResNet-34 in figure 10: four times the channels, with the options of Table 2."""
    models = population(a=resnet(0), b=resnet(1))
    meta_model = "resnet:layers=1+1+1,width=4,block=bottleneck"
    options = {**PRESETS["paper-cnn"], "meta_model": meta_model, "batch_size": 12, "steps": 40}
    made = Trainer(models, FitOptions(**options))
    assert [tuple(site.map.weight.shape[:2]) for site in made.emulator.maps_of(0)] == [(4, 16), (8, 32), (16, 64)]
    made.run()
    hidden = [row[3] for row in made.history]
    assert np.mean(hidden[-8:]) < 0.8 * np.mean(hidden[:8])

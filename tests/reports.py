"""Runs that reports are made of, and where a browser is to open them in."""

import torch

from dynamo import Dataset, FitOptions, Population, Spec, Trainer
from dynamo.contracts.protocols import DynamicalModel
from dynamo.fit.fidelity import measure_fidelity, write_fidelity
from dynamo.fit.fit import Fit
from dynamo.population.base_model import BaseModel
from dynamo.registry import make
from problems import base_model

SENTENCES = Spec.of("synthetic-sentiment:train_size=60,test_size=20")
DIGITS = Spec.of("digits-rows")
FLIP_FLOP = Spec.of("flip-flop:bits=3,steps=9,train_size=40,test_size=20")


IMAGES = Spec.of("digits")


def save_run(root, spec, count=8, meta_model="gru:hidden_size=12,embedding_size=5", head="linear"):
    """A population and a run of it, in folders of their own. Its thetas are drawn at random; it is measured, and no
    question was asked of it.
    """
    data = make("dataset", spec, Dataset)
    labels = [{"group": "ab"[n % 2], "epoch": n // 2, "note": f"no. {n}"} for n in range(count)]
    state_map = "affine"
    if data.inputs.kind == "image":
        meta_model, state_map = "resnet:layers=1+1+1,width=4", "conv"
        made = [image_model(f"net-{n}", data, own) for n, own in enumerate(labels)]
    else:
        made = [base_model(f"net-{n}", data, hidden=4, seed=n, **own) for n, own in enumerate(labels)]
    Population([BaseModel(m.name, m.model, spec, m.metadata, m.architecture) for m in made]).save(root / "population")
    models = Population.load(root / "population")
    options = FitOptions(
        meta_model=meta_model,
        head=head,
        state_map=state_map,
        theta_dim=4,
        models_per_step=None if count < 100 else 8,
        steps=3,
    )
    trainer = Trainer(models, options)
    trainer.run()
    generator = torch.Generator().manual_seed(1)
    for theta in trainer.emulator.thetas:
        theta.data = 2 * torch.randn(4, generator=generator)
    fit = Fit.of(trainer)
    fit.save(root / "run")
    write_fidelity(measure_fidelity(fit, models), root / "run")
    return fit


def image_model(name, data, labels):
    """An untrained network for images."""
    spec = Spec.of("cifar-resnet:depth=8,width=4")
    made = make("architecture", spec, DynamicalModel, data.inputs, data.outputs)
    return BaseModel(name, made.eval().requires_grad_(False), data, labels, spec)

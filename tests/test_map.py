"""Does the map find what was planted?"""

from copy import deepcopy

import pytest
import torch

from dynamo import Fit, FitOptions, Population, Trainer, measure_fidelity
from dynamo.analysis.geometry.clusters import group_agreement
from dynamo.population.base_model import BaseModel
from problems import base_model, dataset


def permuted(base: BaseModel, name: str, seed: int) -> BaseModel:
    """The same GRU with its units in another order: other weights, the same computation."""
    model = deepcopy(base.model)
    size = model.rnn.hidden_size
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    rows = torch.cat([order + gate * size for gate in range(3)])
    with torch.no_grad():
        for weight in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(model.rnn, weight).copy_(getattr(model.rnn, weight)[rows])
        model.rnn.weight_hh_l0.copy_(model.rnn.weight_hh_l0[rows][:, order])
        model.readout_layer.weight.copy_(model.readout_layer.weight[:, order])
    return BaseModel(name, model, base.data, base.metadata, base.architecture)


@pytest.fixture(scope="module")
def planted() -> Population:
    """Three computations, each as four networks whose units are permuted."""
    data = dataset(examples=200, steps=8, classes=4)
    models = []
    for kind in range(3):
        original = base_model(f"kind{kind}", data, hidden=8, seed=kind, kind=kind)
        with torch.no_grad():
            for parameter in original.model.parameters():
                parameter *= 2.5  # far enough from linear to differ in kind
        models += [permuted(original, f"kind{kind}-{copy}", seed=10 * kind + copy) for copy in range(4)]
    return Population(models)


def test_a_permuted_network_computes_the_same(planted):
    values = torch.randn(6, 8, 2)
    first, second, other = planted[0].model(values), planted[1].model(values), planted[4].model(values)
    torch.testing.assert_close(first, second)
    assert float((first - other).abs().max()) > 0.1
    assert not torch.allclose(planted[0].model.rnn.weight_hh_l0, planted[1].model.rnn.weight_hh_l0)


@pytest.mark.parametrize("models_per_step", [1, None])
def test_networks_that_compute_alike_land_together(planted, models_per_step):
    """Both forms of the algorithm; on equal numbers of examples, so Algorithm 1 makes six times the steps."""
    steps = 400 if models_per_step is None else 2400
    size = 96 if models_per_step is None else 16
    options = FitOptions(
        meta_model="gru:hidden_size=24",
        theta_dim=4,
        output_weight=10,
        models_per_step=models_per_step,
        batch_size=size,
        steps=steps,
        learning_rate=5e-3,
    )
    trainer = Trainer(planted, options)
    trainer.run()
    fit = Fit.of(trainer)
    found = group_agreement(fit.theta.numpy(), fit.values_of("kind"))
    assert found.ari == 1
    assert found.silhouette > 0.5
    assert measure_fidelity(fit, planted).mean("agreement") > 0.8


@pytest.mark.slow
def test_training_set_size_separates_networks_trained_on_synthetic_sentiment(tmp_path):
    """Networks trained on 2,000 and on 150 sentences, as in Figure 3 (1)."""
    from dynamo.cli import main

    data = "synthetic-sentiment:train_size=4000"
    train = ["-a", "gru:hidden_size=32,embedding_size=16", "-d", data, "--seeds", "6", "--learning-rate", "3e-3"]
    main(["train", str(tmp_path / "p"), *train, "-f", "1", "-f", "0.075", "--epochs", "15", "--batch-size", "64"])
    for seed in range(3):
        run = tmp_path / f"run{seed}"
        main(["fit", str(tmp_path / "p"), "-o", str(run), "--preset", "laptop", "--steps", "800", "--seed", str(seed)])
        fit = Fit.load(run)
        assert group_agreement(fit.theta.numpy(), fit.values_of("fraction")).ari == 1

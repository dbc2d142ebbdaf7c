"""The tables of `dynamics.py` where the truth is known: generated sentences whose sentiment is a sum.

    planted   8 exact integrators in 8 units, each in a frame of its own: the valences of the words add up along a line
              of fixed points of length 6 (4 of them) or 3, and stop at its ends; all else fades by half in a step
    trained   8 GRUs of 16 units, 4 trained on all sentences and 4 on 2 % of them

The input is held at a word without valence, which moves no integrator along its line.

    python benchmarks/known_dynamics.py --out known-dynamics
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from dynamics import Subject, report
from torch import Tensor, nn

from dynamo import (
    Dataset,
    Fit,
    FitOptions,
    Inputs,
    InputSpace,
    OutputSpace,
    Population,
    RecurrentModel,
    Spec,
    Trainer,
    Trajectory,
    measure_fidelity,
)
from dynamo.analysis.dynamics.words import WordLists
from dynamo.analysis.networks.task import task_of
from dynamo.registry import make
from dynamo.training.base_models import BaseTrainingOptions, as_base_model, jobs, train_base_model
from dynamo.training.presets import PRESETS
from dynamo_datasets.synthetic import meaning

SENTENCES = "synthetic-sentiment:negations=0,intensifiers=0,max_length=12,train_size=3000,test_size=500"
OPTIONS: dict[str, Any] = {**PRESETS["laptop"], "theta_dim": 8}
OPTIONS["meta_model"] = "gru:hidden_size=48,embedding_size=24"
WORDS = WordLists(("positive*",), ("negative*",), ("neutral*",))
UNITS, GAIN, FADING, LENGTHS = 8, 0.5, 0.5, (6, 3)


class Integrator(RecurrentModel):
    """s' = s + GAIN × valence, no farther than the ends of the line, beside units that words kick and that fade.

    Args:
        inputs, outputs: the spaces.
        tokens: the vocabulary.
        length: of the line.
        seed: of the frame and the kicks.
    """

    def __init__(self, inputs: InputSpace, outputs: OutputSpace, tokens: tuple[str, ...], length: float, seed: int):
        super().__init__()
        self.inputs, self.outputs, self.half, self.state_shapes = inputs, outputs, length / 2, ((UNITS,),)
        generator = torch.Generator().manual_seed(seed)
        kicks = 0.5 * torch.randn(len(tokens), UNITS, generator=generator)
        for number, word in enumerate(tokens):
            kicks[number, 0] = 0.0 if word.startswith("<") else GAIN * meaning(word)[1]
        kicks[tokens.index("neutral0")] = 0.0
        self.kicks = nn.Parameter(kicks)
        self.frame = nn.Parameter(torch.linalg.qr(torch.randn(UNITS, UNITS, generator=generator))[0])

    def encode(self, values: Tensor) -> Tensor:
        return self.kicks[values]

    def initial_state(self, batch: int) -> Tensor:
        return self.kicks.new_zeros(batch, UNITS)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        own = h @ self.frame.T
        along = (own[:, :1] + x[:, :1]).clamp(-self.half, self.half)
        return torch.cat([along, FADING * own[:, 1:] + x[:, 1:]], 1) @ self.frame

    def readout(self, h: Tensor) -> Tensor:
        along = (h @ self.frame.T)[..., :1]
        return torch.cat([-along, along], -1)

    def trajectory(self, inputs: Inputs) -> Trajectory:
        h, states = self.initial_state(len(inputs)), []
        for x in self.encode(inputs.values).unbind(1):
            h = self.step(x, h)
            states.append(h)
        stacked = torch.stack(states, 1)
        return Trajectory((stacked,), self.readout(stacked), inputs.mask)


def planted(data: Dataset) -> Population:
    lengths = {f"long-{seed}": LENGTHS[0] for seed in range(4)} | {f"short-{seed}": LENGTHS[1] for seed in range(4, 8)}
    models = {}
    for name, length in lengths.items():
        model = Integrator(data.inputs, data.outputs, tuple(data.tokens), length, int(name[-1]))
        models[name] = model.eval().requires_grad_(False)
    return Population.of(models, data, {name: {"length": length} for name, length in lengths.items()})


def trained(data: Dataset) -> Population:
    options = BaseTrainingOptions(epochs=15, learning_rate=5e-3)
    architecture = Spec("gru", {"hidden_size": 16, "embedding_size": 8})
    models = []
    for job in jobs("gru", [architecture], [1.0, 0.02], range(4)):
        *_, (_, model) = train_base_model(job, data, options)
        models.append(as_base_model(job, model.eval().requires_grad_(False), Spec.of(SENTENCES), data, None, {}))
    return Population(models)


PROBLEMS = {"planted": (planted, "length"), "trained": (trained, "fraction")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("known-dynamics"))
    parser.add_argument("--problems", nargs="*", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--seed", type=int, default=0, help="of the meta-model")
    parser.add_argument("--steps", type=int, default=OPTIONS["steps"], help="of its training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = make("dataset", SENTENCES, Dataset)
    for name in given.problems:
        build, label = PROBLEMS[name]
        population = build(data)
        trainer = Trainer(population, FitOptions(**{**OPTIONS, "seed": given.seed, "steps": given.steps}))
        trainer.run()
        fit = Fit.of(trainer)
        fidelity = measure_fidelity(fit, population)
        print(f"{name}: hidden R² {fidelity.mean('hidden_r2'):.3f}, agreement {fidelity.mean('agreement'):.3f}\n")
        groups = tuple(str(value) for value in fit.values_of(label))
        subject = Subject(fit, population, task_of(fit, population), groups, "token:neutral0", 60, 0)
        settings = argparse.Namespace(points=5, budget=40, conjugacy_starts=20, size=5)
        out = given.out / name
        (out / "tables.md").write_text(report(subject, label, out, settings, WORDS))


if __name__ == "__main__":
    main()

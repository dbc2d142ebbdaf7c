"""Models at a θ, and base models, leave for other runtimes: torch.export and ONNX, with any number of examples."""

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from dynamo import Dataset, Examples, Fit, FitOptions, InputSpace, OutputSpace, Population, Trainer
from dynamo.contracts.protocols import DynamicalModel
from dynamo.registry import make
from dynamo.testing import example_inputs
from dynamo_resnet.taps import TappedModel

IMAGES, TOKENS, REAL = InputSpace("image", (3, 8, 8)), InputSpace("tokens", (11,)), InputSpace("real", (2,))
CLASSES, EVERY = OutputSpace("classes", 4), OutputSpace("real", 3, readout="every")
RECURRENT = "hidden_size=6,embedding_size=5"
TRACED, STEPS = 3, 7


def base_model(architecture, inputs, outputs):
    if architecture == "taps":
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten())
        return TappedModel(inputs, outputs, module.append(nn.Linear(144, 4)), ["1", "2"]).eval()
    return make("architecture", architecture, DynamicalModel, inputs, outputs).eval()


def fitted(inputs, outputs, architecture, meta_model, state_map):
    """The model at a base model's θ, after some steps."""

    def part(seed):
        found = example_inputs(inputs, batch=16, steps=STEPS, seed=seed)
        if outputs.readout == "every":
            return Examples(found, torch.randn(16, STEPS, outputs.size))
        return Examples(found, torch.arange(16) % outputs.size)

    base = base_model(architecture, inputs, outputs).requires_grad_(False)
    population = Population.of({"a": base}, Dataset(inputs, outputs, part(0), part(1)))
    options = FitOptions(
        meta_model=meta_model, state_map=state_map, theta_dim=3, batch_size=8, steps=3, learning_rate=1e-2
    )
    trainer = Trainer(population, options)
    trainer.run()
    fit = Fit.of(trainer)
    assert (fit.theta != 0).all()
    return fit.model_at("a")


def image_model():
    return fitted(IMAGES, CLASSES, "cifar-resnet:depth=8,width=4", "resnet:layers=1+1+1,width=4", "conv")


def bottlenecks():
    blocks = "resnet:layers=1+2,width=4,block=bottleneck,states=blocks"
    return fitted(IMAGES, CLASSES, "cifar-resnet:depth=8,width=4,states=blocks", blocks, "tokens")


def sequence_model():
    return fitted(TOKENS, CLASSES, f"gru:{RECURRENT}", f"gru:{RECURRENT}", "affine")


def parallel_model():
    return fitted(TOKENS, CLASSES, f"gru:{RECURRENT}", f"mingru:{RECURRENT}", "affine")


def every_step():
    return fitted(REAL, EVERY, f"rnn:{RECURRENT}", f"gru:{RECURRENT}", "affine")


def arguments(model, batch, seed=0):
    """Images; sequences of one length, shorter ones under the mask."""
    inputs = example_inputs(model.inputs, batch=batch, steps=STEPS, seed=seed)
    return (inputs.values, inputs.mask) if inputs.is_sequence else (inputs.values,)


def shapes(model):
    batch = {0: Dim("batch")}
    return {"values": batch} if model.inputs.kind == "image" else {"values": batch, "mask": batch}


def check(model, run):
    """A runtime gives what the model does, on batches of other sizes than the traced one too."""
    for batch in (1, TRACED, 8):
        given = arguments(model, batch, seed=batch)
        with torch.no_grad():
            found, wanted = run(given), model(*given)
        if model.outputs.readout == "every":  # what stands on padded steps means nothing
            found, wanted = found[given[1]], wanted[given[1]]
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def exported(model):
    return export(model, arguments(model, TRACED), dynamic_shapes=shapes(model))


@pytest.mark.parametrize("make_model", [image_model, bottlenecks, sequence_model, parallel_model, every_step])
def test_models_at_a_theta_are_exported(make_model):
    model = make_model()
    program = exported(model).module()
    check(model, lambda given: program(*given))


@pytest.mark.parametrize(
    ("architecture", "inputs"),
    [
        ("cifar-resnet:depth=8,width=4", IMAGES),
        ("taps", IMAGES),
        (f"gru:{RECURRENT}", TOKENS),
        (f"rnn:{RECURRENT}", REAL),
        (f"lstm:{RECURRENT}", TOKENS),
    ],
)
def test_base_models_are_exported(architecture, inputs):
    model = base_model(architecture, inputs, CLASSES)
    program = exported(model).module()
    check(model, lambda given: program(*given))


def test_a_sequence_without_a_mask_is_exported():
    """All its steps are real then."""
    model = sequence_model()
    values, mask = arguments(model, TRACED)
    program = export(model, (values,), dynamic_shapes={"values": {0: Dim("batch")}}).module()
    more = torch.cat([values, values])
    torch.testing.assert_close(program(more), model(more), rtol=0, atol=1e-5)
    assert not torch.allclose(program(values), model(values, mask), atol=1e-3)


def test_an_exported_file_runs_without_the_classes_it_came_from(tmp_path):
    model = image_model()
    torch.export.save(exported(model), tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    check(model, lambda given: loaded(*given))


@pytest.mark.parametrize("make_model", [image_model, sequence_model, parallel_model])
def test_onnx(make_model, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'dynamo-embedding[export]'")
    import onnxruntime

    model = make_model()
    traced, file = arguments(model, TRACED), tmp_path / "model.onnx"
    torch.onnx.export(model, traced, file, dynamo=True, dynamic_shapes=shapes(model), verbose=False)
    session = onnxruntime.InferenceSession(file)
    names = [taken.name for taken in session.get_inputs()]

    def run(given):
        values = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        return torch.from_numpy(session.run(None, values)[0])

    check(model, run)

"""Image networks on the command line: each wrong turn is one clear line, exit status 2, and leaves no file."""

import shutil
import tomllib

import numpy as np
import pytest
import tomli_w

from command_line import dynamo

SMALL = "cifar-resnet:depth=8,width=4"
FIT = ["--preset", "laptop-cnn", "--meta-model", "resnet:layers=1+1+1,width=4", "--steps", "2"]


def write_images(path, side=8, channels=3):
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 24), ("test", 8)):
        arrays[f"x_{part}"] = random.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 4
    np.savez(path, **arrays)
    return f"image-arrays:path={path}"


def train(folder, architecture, data, *options):
    return dynamo("train", folder, "-a", architecture, "-d", data, "--epochs", 1, "--batch-size", 8, *options)


@pytest.fixture
def refused(tmp_path, capsys):
    """Expect a command to be refused in one line with a message, and to leave the folder as it was."""
    before = []

    def check(status, message):
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert status == 2
        assert len(lines) == 1
        assert message in lines[0]
        assert files(tmp_path) == before[0]

    def remember():
        before.append(files(tmp_path))
        capsys.readouterr()
        return check

    return remember


def files(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


WRONG_TRAIN = [
    (
        "resnet:stem=imagenet",
        {},
        [],
        "needs at least 17 x 17 pixels; these have 8 x 8: use larger images or stem=small",
    ),
    ("resnet", {"side": 4}, [], "with stem 'small' and 4 stages halves its images 3 times and needs at least 5 x 5"),
    (
        "taps:model=squeezenet1_1,points=features.3",
        {},
        [],
        "shape (3, 8, 8): it needs at least",
    ),
    ("taps:points=stage2+stage33", {"side": 32}, [], "has no module 'stage33': did you mean 'stage3.3' or 'stage3'"),
    ("taps:points=xyz", {"side": 32}, [], "at its top it has conv1, maxpool, stage2, stage3, stage4, conv5, fc"),
    ("taps:points=stage2+", {}, [], "'points' is 'stage2+': it must be names of modules joined by '+'"),
    (
        "taps:model=vit_b_32,points=encoder.layers.encoder_layer_0.self_attention",
        {"side": 32},
        [],
        "self_attention' gives a tuple, not one tensor: tap a part of it",
    ),
    (SMALL, {"side": 4}, ["--batch-size", 1], "take batches of at least 2 (mind the last one), larger images"),
    (SMALL, {"channels": 2}, ["--augmentation", "strong"], "changes images of 1 or 3 channels; these have 2"),
    (SMALL, {"side": 4}, ["--augmentation", "weak:shift=4"], "a shift of 4 pixels needs images of more than that"),
    ("gru", {}, [], "reads sequences of tokens or of real vectors, not image input of shape (3, 8, 8)"),
]


@pytest.mark.parametrize(
    ("architecture", "images", "options", "message"), WRONG_TRAIN, ids=[message for *_, message in WRONG_TRAIN]
)
def test_what_train_refuses(architecture, images, options, message, tmp_path, refused):
    data = write_images(tmp_path / "images.npz", **images)
    check = refused()
    check(train(tmp_path / "population", architecture, data, *options), message)


def test_a_residual_network_for_sequences_is_refused(tmp_path, refused):
    check = refused()
    check(train(tmp_path / "population", SMALL, "digits-rows"), "takes images of shape (channels, height, width)")


def test_auxiliary_outputs_are_switched_off(tmp_path):
    """GoogLeNet gives three outputs in training, unless it is built without them."""
    data = write_images(tmp_path / "images.npz", side=32)
    assert train(tmp_path / "population", "taps:model=googlenet,points=inception3a+inception5b", data) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a data set of images and a population that was trained on it."""
    folder = tmp_path_factory.mktemp("vision")
    assert train(folder / "population", SMALL, write_images(folder / "images.npz"), "--seeds", 2) == 0
    return folder


@pytest.fixture
def population(trained, tmp_path):
    """A copy of it, whose manifest and data can be changed."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)

    def to_here(model):
        model["dataset"]["path"] = str(tmp_path / "images.npz")

    edit(tmp_path / "population", to_here, range(2))
    return tmp_path / "population"


def edit(population, change, numbers=(0,)):
    manifest = population / "population.toml"
    table = tomllib.loads(manifest.read_text())
    for number in numbers:
        change(table["models"][number])
    table.pop("digest", None)  # as a user does who edits it
    manifest.write_text(tomli_w.dumps(table))


WRONG_FIT = [
    (["--meta-model", "resnet:layers=1+1+1,stem=imagenet"], "at least 9 x 9 pixels; these have 8 x 8"),
    (["--meta-model", "resnet:layers=1+1"], "has states at 3 sites, the meta-model 'resnet' at 2"),
    (["--meta-model", "resnet:layers=1+1+1+1+1"], "halves its images 4 times and needs at least 9 x 9 pixels"),
    (["--meta-model", "gru"], "reads sequences of tokens or of real vectors, not image input"),
    (["--state-map", "affine"], "state-map 'affine' is unavailable for images"),
    (["--state-map", "conv:per_channel=true,rank=2"], "'rank' bounds a matrix, and with per_channel there is none"),
    (["--meta-model", "resnet:layers=1+1+1,width=6", "--block-outputs", "true"], "give the meta-model the same block"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_FIT, ids=[message for _, message in WRONG_FIT])
def test_what_fit_refuses(options, message, population, tmp_path, refused):
    check = refused()
    check(dynamo("fit", population, "-o", tmp_path / "run", *FIT, *options), message)


def test_a_fit_with_one_image_a_batch_is_refused(tmp_path, refused):
    assert train(tmp_path / "population", SMALL, write_images(tmp_path / "images.npz", side=4)) == 0
    check = refused()
    status = dynamo("fit", tmp_path / "population", "-o", tmp_path / "run", *FIT, "--batch-size", 1)
    check(status, "batch normalisation cannot train on one image whose feature maps have shrunk to 1 x 1")


WRONG_MANIFEST = [
    (lambda model: model["architecture"].update(depth=14), "module.layer1.1.bn1.weight is missing and 31 more"),
    (lambda model: model["architecture"].update(width=6), "module.bn1.bias has shape (4,) instead of (6,)"),
    (lambda model: model["architecture"].update(depth=9), "'depth' is 9: it must be 6n + 2"),
    (
        lambda model: model["architecture"].update(name="resnet"),
        "model 'images-cifar-resnet-100-s0': architecture 'resnet' has no option",
    ),
    (lambda model: model["inputs"].update(shape=[1, 8, 8]), "has shape (4, 3, 3, 3) instead of (4, 1, 3, 3)"),
    (lambda model: model["inputs"].update(shape=[8, 8]), "or image with three"),
    (lambda model: model["inputs"].update(shape=[3, 4, 4]), "take different inputs (image input of shape (3, 4, 4);"),
    (lambda model: model["outputs"].update(size=7), "module.fc.bias has shape (4,) instead of (7,)"),
    (lambda model: model.update(weights="weights/images-cifar-resnet-100-s1.safetensors"), "its checksum differs"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_MANIFEST, ids=[message for _, message in WRONG_MANIFEST])
def test_a_manifest_that_was_changed_is_refused(change, message, population, tmp_path, refused):
    edit(population, change)
    check = refused()
    check(dynamo("fit", population, "-o", tmp_path / "run", *FIT), message)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (12, 3)], ids=["channels", "size"])
def test_images_that_changed_after_training_are_refused(side, channels, population, tmp_path, refused):
    write_images(tmp_path / "images.npz", side, channels)
    check = refused()
    told = f"does not fit its data set 'image-arrays' (image input of shape ({channels}, {side}, {side})"
    check(dynamo("fit", population, "-o", tmp_path / "run", *FIT), told)


def test_networks_of_images_of_other_channels_are_no_population(population, tmp_path, refused):
    """They can lie in one folder, and be fitted by themselves."""
    assert train(population, SMALL, write_images(tmp_path / "grey.npz", channels=1)) == 0
    check = refused()
    told = "take different inputs (image input of shape (3, 8, 8); image input of shape (1, 8, 8))"
    check(dynamo("fit", population, "-o", tmp_path / "run", *FIT), told)


def test_a_second_architecture_that_does_not_fit_is_told_before_the_first_is_trained(tmp_path, refused):
    data = write_images(tmp_path / "images.npz")
    check = refused()
    status = train(tmp_path / "population", SMALL, data, "-a", "resnet:stem=imagenet")
    check(status, "use larger images or stem=small")

"""Data sets of images, read from small files in the official formats."""

import gzip
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from dynamo import DynamoError, InputSpace
from dynamo.testing import check_component
from dynamo_images import dynamo_components
from dynamo_images.pixels import channel_statistics

COMPONENTS = {component.name: component for component in dynamo_components()}
RANDOM = np.random.default_rng(0)


def make(name, **options):
    return COMPONENTS[name].make({key: str(value) for key, value in options.items()})


def pixels(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def normalised(images, train):
    """Images ``[n, C, H, W]`` by the statistics of the training images, in double precision."""
    mean, deviation = (getattr(train.astype(np.float64), name)((0, 2, 3), keepdims=True) for name in ("mean", "std"))
    return torch.from_numpy((images - mean) / deviation).float()


# --- files in the official formats


class Python2Pickler(pickle._Pickler):
    """Writes byte strings as Python 2 did, in which the official CIFAR files are pickled."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, data):
        data = data.encode("latin1") if isinstance(data, str) else data
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[bytes] = dispatch[str] = save_string

    def save_array(self, array):
        """As numpy 1 did: ``numpy.core.multiarray._reconstruct`` and a dtype made of ``('u1', 0, 1)``."""
        self.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n")
        self.save((0,))
        self.save("b")
        self.write(pickle.TUPLE3 + pickle.REDUCE + pickle.MARK)
        self.save(1)
        self.save(array.shape)
        self.write(b"cnumpy\ndtype\n")
        self.save(("u1", 0, 1))
        self.write(pickle.REDUCE)
        self.save((3, "|", None, None, None, -1, -1, 0))
        self.write(pickle.BUILD + pickle.NEWFALSE)
        self.save(array.tobytes())
        self.write(pickle.TUPLE + pickle.BUILD)

    dispatch[np.ndarray] = save_array


def write_cifar(folder, names, labels, classes, count=4):
    """Batches of random images; gives their pixels ``[n, 3, 32, 32]`` and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    images, targets = [], []
    for name in names:
        data, own = pixels(count, 3072), [int(label) for label in RANDOM.integers(0, classes, count)]
        with (folder / name).open("wb") as file:
            Python2Pickler(file, protocol=2).dump({"batch_label": name, "data": data, labels: own})
        images.append(data)
        targets += own
    return np.concatenate(images).reshape(-1, 3, 32, 32), targets


def write_cifar10(root):
    folder = root / "cifar-10-batches-py"
    train = write_cifar(folder, [f"data_batch_{number}" for number in range(1, 6)], "labels", 10)
    return train, write_cifar(folder, ["test_batch"], "labels", 10)


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_fashion(folder, compress=False):
    """The four idx files; gives the pixels ``[n, 28, 28]`` and labels of each part."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for part, count in (("train", 12), ("t10k", 5)):
        images, labels = pixels(count, 28, 28), RANDOM.integers(0, 10, count, dtype=np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            content = gzip.compress(idx(array)) if compress else idx(array)
            (folder / (name + ".gz" * compress)).write_bytes(content)
        parts.append((images, labels))
    return parts


def write_arrays(path, **replaced):
    arrays = {
        "x_train": pixels(9, 5, 6, 3),
        "y_train": np.arange(9) % 4,
        "x_test": pixels(4, 5, 6, 3),
        "y_test": np.arange(4),
    }
    arrays |= replaced
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def write_folder(root, shape=(6, 7), count=3):
    """PNG files of two classes; gives the pixels ``[n, 3, H, W]`` of each part."""
    parts = []
    for part in ("train", "test"):
        images = pixels(2 * count, *shape, 3)
        for number, image in enumerate(images):
            folder = root / part / ("cat", "dog")[number // count]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
        parts.append(images.transpose(0, 3, 1, 2))
    return parts


# --- what is read


def test_contract_of_digits():
    check_component(COMPONENTS["digits"])


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist", "image-arrays", "image-folder"])
def test_contracts_of_data_sets_from_files(name, tmp_path):
    if name == "image-arrays":
        write_arrays(tmp_path / "own.npz")
        check_component(COMPONENTS[name], {"path": str(tmp_path / "own.npz"), "train_size": 6})
        return
    {"cifar10": write_cifar10, "fashion-mnist": write_fashion, "image-folder": write_folder}[name](tmp_path)
    check_component(COMPONENTS[name], {"root": str(tmp_path), "train_size": 5})


def test_digits_are_all_the_images_of_scikit_learn_split_once():
    made = make("digits")
    assert (made.inputs, made.outputs.size) == (InputSpace("image", (1, 8, 8)), 10)
    assert (len(made.train), len(made.test)) == (1348, 449)
    mean, deviation = made.train.inputs.values.mean(), made.train.inputs.values.std(correction=0)
    torch.testing.assert_close(torch.stack([mean, deviation]), torch.tensor([0.0, 1.0]), atol=1e-5, rtol=0)
    values = torch.cat([part.inputs.values.flatten(1).double() for part in (made.train, made.test)])
    levels = ((values - values.min()) / (values.max() - values.min()) * 16).round().long()
    targets = torch.cat([made.train.targets, made.test.targets])
    ours = [(*row, target) for row, target in zip(levels.tolist(), targets.tolist(), strict=True)]
    theirs = load_digits()
    assert sorted(ours) == sorted((*row, target) for row, target in zip(theirs.data, theirs.target, strict=True))


def test_cifar10_is_read_as_torchvision_reads_it(tmp_path, monkeypatch):
    """torchvision knows only files of the official checksums; without that check it reads the same."""
    (images, labels), (tested, _) = write_cifar10(tmp_path)
    made = make("cifar10", root=tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    theirs = datasets.CIFAR10(tmp_path)
    assert np.array_equal(theirs.data.transpose(0, 3, 1, 2), images)
    assert made.train.targets.tolist() == theirs.targets == labels
    torch.testing.assert_close(made.train.inputs.values, normalised(images, images))
    torch.testing.assert_close(made.test.inputs.values, normalised(tested, images))
    assert made.outputs.size == 10
    assert made.outputs.group == "cifar10"


def test_cifar100_has_the_fine_labels(tmp_path):
    images, labels = write_cifar(tmp_path, ["train"], "fine_labels", 100, count=7)
    write_cifar(tmp_path, ["test"], "fine_labels", 100)
    made = make("cifar100", root=tmp_path)  # the files lie in root itself
    assert made.outputs.size == 100
    assert made.train.targets.tolist() == labels
    torch.testing.assert_close(made.train.inputs.values, normalised(images, images))


def test_cifar_files_of_today_are_read_too(tmp_path):
    write_cifar(tmp_path, ["train", "test"], "fine_labels", 100)
    before = make("cifar100", root=tmp_path).fingerprint()
    for file in (tmp_path / "train", tmp_path / "test"):
        content = pickle.loads(file.read_bytes(), encoding="latin1")
        file.write_bytes(pickle.dumps(content, protocol=4))
    assert make("cifar100", root=tmp_path).fingerprint() == before


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("below", [".", "FashionMNIST/raw"], ids=["files", "torchvision"])
def test_fashion_mnist_is_read_from_both_places_and_forms(below, compress, tmp_path):
    (images, labels), (tested, classes) = write_fashion(tmp_path / below, compress)
    made = make("fashion-mnist", root=tmp_path)
    torch.testing.assert_close(made.train.inputs.values, normalised(images[:, None], images[:, None]))
    torch.testing.assert_close(made.test.inputs.values, normalised(tested[:, None], images[:, None]))
    assert (made.train.targets.tolist(), made.test.targets.tolist()) == (labels.tolist(), classes.tolist())
    if below != "." and not compress:
        assert np.array_equal(datasets.FashionMNIST(tmp_path).data.numpy(), images)


@pytest.mark.parametrize("channels", [(), (1,), (3,)], ids=str)
def test_arrays_have_channels_last_or_none(channels, tmp_path):
    shapes = {f"x_{part}": pixels(count, 5, 6, *channels) for part, count in (("train", 9), ("test", 4))}
    found = write_arrays(tmp_path / "mine.npz", **shapes)
    made = make("image-arrays", path=tmp_path / "mine.npz")
    first, other = (found[name].reshape(-1, 5, 6, *(channels or (1,))).transpose(0, 3, 1, 2) for name in shapes)
    torch.testing.assert_close(made.train.inputs.values, normalised(first, first))
    torch.testing.assert_close(made.test.inputs.values, normalised(other, first))
    assert (made.outputs.size, made.outputs.group) == (4, "mine")
    assert made.train.targets.tolist() == found["y_train"].tolist()


def test_folders_are_classes_in_the_order_of_their_names(tmp_path):
    train, test = write_folder(tmp_path)
    made = make("image-folder", root=tmp_path)
    assert made.train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(made.train.inputs.values, normalised(train, train))
    torch.testing.assert_close(made.test.inputs.values, normalised(test, train))
    assert (made.outputs.size, made.outputs.group) == (2, tmp_path.name)


def test_folders_of_images_of_any_size_are_scaled_and_cut(tmp_path):
    write_folder(tmp_path, shape=(12, 20))
    Image.fromarray(pixels(9, 30)).save(tmp_path / "train" / "cat" / "grey.png")
    made = make("image-folder", root=tmp_path, size=8)
    assert made.inputs.shape == (3, 8, 8)
    assert len(made.train) == 7


def test_cutting_keeps_the_middle(tmp_path):
    image = np.zeros((6, 10, 3), dtype=np.uint8)
    image[:, 2:8] = 200
    for part in ("train", "test"):
        (tmp_path / part / "one").mkdir(parents=True)
        Image.fromarray(image if part == "test" else image // 2).save(tmp_path / part / "one" / "1.png")
    assert make("image-folder", root=tmp_path, size=6).test.inputs.values.unique().tolist() == [100.0]


def test_images_are_one_step_of_time(tmp_path):
    write_fashion(tmp_path)
    made = make("fashion-mnist", root=tmp_path)
    assert made.train.inputs.mask.shape == (12, 1)
    assert made.train.inputs.mask.all()
    assert made.train.inputs.values.dtype == torch.float32


# --- normalisation and parts


def test_channel_statistics_are_exact():
    images = pixels(7, 3, 5, 4)
    images[:, 2] = 9
    mean, deviation = channel_statistics(torch.from_numpy(images))
    wanted = images.astype(np.float64)
    np.testing.assert_allclose(mean.flatten(), wanted.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(deviation.flatten()[:2], wanted.std((0, 2, 3))[:2], rtol=1e-6)
    assert deviation.flatten()[2] == 1  # of one level


def test_a_part_has_the_values_that_it_has_in_the_whole(tmp_path):
    write_fashion(tmp_path)
    whole, part, smaller = (make("fashion-mnist", root=tmp_path, train_size=size) for size in ("none", 6, 3))

    def rows(examples):
        images = [image.numpy().tobytes() for image in examples.inputs.values]
        return set(zip(images, examples.targets.tolist(), strict=True))

    assert rows(smaller.train) < rows(part.train) < rows(whole.train)
    assert torch.equal(part.train.inputs.values[:3], smaller.train.inputs.values)
    assert len(part.test) == 5


def test_parts_are_drawn_by_the_seed(tmp_path):
    write_fashion(tmp_path)
    one, same, other = (
        make("fashion-mnist", root=tmp_path, train_size=6, test_size=2, seed=seed).fingerprint() for seed in (1, 1, 2)
    )
    assert one == same != other


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_is_not_larger_than_the_whole(part, tmp_path):
    write_fashion(tmp_path)
    with pytest.raises(DynamoError, match=f"'{part}_size' is 13, and there are (12|5) images"):
        make("fashion-mnist", root=tmp_path, **{f"{part}_size": 13})


# --- errors


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
def test_files_that_are_not_there_are_told_with_what_to_do(name, tmp_path):
    with pytest.raises(DynamoError, match=rf"'{name}' is neither in {tmp_path}.*root=FOLDER or download=true"):
        make(name, root=tmp_path)


def test_where_debian_keeps_fashion_mnist_is_told(tmp_path):
    with pytest.raises(DynamoError, match="the package dataset-fashion-mnist"):
        make("fashion-mnist", root=tmp_path)


@pytest.mark.parametrize(("name", "source"), [("cifar10", "CIFAR10"), ("fashion-mnist", "FashionMNIST")])
def test_downloading_is_left_to_torchvision(name, source, tmp_path, monkeypatch):
    def download(root, download):
        assert download
        {"cifar10": write_cifar10, "fashion-mnist": lambda root: write_fashion(root / "FashionMNIST/raw")}[name](root)

    monkeypatch.setattr(datasets, source, download)
    first = make(name, root=tmp_path, download=True)
    monkeypatch.setattr(datasets, source, None)  # nothing is downloaded twice
    assert make(name, root=tmp_path, download=True).fingerprint() == first.fingerprint()


def test_a_download_that_fails_is_told(tmp_path, monkeypatch):
    def download(root, download):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "CIFAR100", download)
    with pytest.raises(DynamoError, match=r"'cifar100' cannot be downloaded to .* \(no route to host\)"):
        make("cifar100", root=tmp_path, download=True)


def test_a_pickle_that_holds_code_is_refused_and_does_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    write_cifar(tmp_path, ["train", "test"], "fine_labels", 100)
    (tmp_path / "train").write_bytes(pickle.dumps({"data": Trap(), "fine_labels": []}))
    with pytest.raises(DynamoError, match=r"train is no file of the official archive .*it asks for"):
        make("cifar100", root=tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no file of the official archive"),
        (pickle.dumps({"data": 3}), "no file of the official archive .*fine_labels"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1]}, 4), "does not hold 1 rows of 3072"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [100]}, 4), "classes outside 0 to 99"),
    ],
    ids=["empty", "other", "short", "labels"],
)
def test_damaged_cifar_files(content, message, tmp_path):
    write_cifar(tmp_path, ["train", "test"], "fine_labels", 100)
    (tmp_path / "train").write_bytes(content)
    with pytest.raises(DynamoError, match=message):
        make("cifar100", root=tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"\0\0", "is no idx file of bytes"),
        ("train-images-idx3-ubyte", idx(np.zeros((12, 28, 28), np.uint8))[:-1], "not those of its shape"),
        ("train-images-idx3-ubyte", bytes((0, 0, 8, 3, 0)), "not those of its shape"),
        ("train-images-idx3-ubyte", bytes((0, 0, 13, 1)) + bytes(4), "is no idx file of bytes"),
        ("train-images-idx3-ubyte", idx(np.zeros(12, np.uint8)), "has 1 dimensions"),
        ("train-images-idx3-ubyte", idx(np.zeros((0, 28, 28), np.uint8)), "has 0 images and 12 labels"),
        ("train-labels-idx1-ubyte", idx(np.zeros(11, np.uint8)), "has 12 images and 11 labels"),
        ("train-labels-idx1-ubyte", idx(np.full(12, 10, np.uint8)), "classes outside 0 to 9"),
        ("t10k-images-idx3-ubyte", idx(np.zeros((5, 8, 8), np.uint8)), "test images of"),
    ],
)
def test_damaged_idx_files(file, content, message, tmp_path):
    write_fashion(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DynamoError, match=message):
        make("fashion-mnist", root=tmp_path)


@pytest.mark.parametrize("damage", [lambda content: b"no gzip", lambda content: content[:-20]], ids=["none", "short"])
def test_damaged_gzip_files(damage, tmp_path):
    write_fashion(tmp_path, compress=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DynamoError, match=r"cannot read .*ubyte\.gz"):
        make("fashion-mnist", root=tmp_path)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"x_train": None}, "has no array x_train; it needs"),
        ({"x_train": np.zeros((9, 5, 6, 3))}, r"\(train\): x is float64 .*must be uint8"),
        ({"x_train": pixels(9, 5)}, r"x is uint8 \[9, 5\]"),
        ({"x_test": pixels(0, 5, 6, 3)}, r"\(test\): x is uint8 \[0, 5, 6, 3\]"),
        ({"x_test": pixels(4, 5, 6)}, "training images of shape .* and test images"),
        ({"y_train": np.zeros(9)}, "y is float64"),
        ({"y_train": np.zeros(8, int)}, r"integers \[9\]"),
        ({"y_train": np.full(9, -1)}, "classes outside 0 to 3"),
        ({"x_train": np.array([{}] * 9, dtype=object)}, "not an .npz file of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit(replaced, message, tmp_path):
    write_arrays(tmp_path / "own.npz", **replaced)
    with pytest.raises(DynamoError, match=message):
        make("image-arrays", path=tmp_path / "own.npz")


def test_arrays_that_are_no_file(tmp_path):
    with pytest.raises(DynamoError, match=r"give path=FILE\.npz"):
        COMPONENTS["image-arrays"].make({})
    with pytest.raises(DynamoError, match="there is no file"):
        make("image-arrays", path=tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DynamoError, match=r"not an \.npz file"):
        make("image-arrays", path=tmp_path / "text.npz")


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(DynamoError, match="give root=FOLDER"):
        COMPONENTS["image-folder"].make({})
    with pytest.raises(DynamoError, match=r"train.*give each class a folder"):
        make("image-folder", root=tmp_path)
    write_folder(tmp_path)
    other = tmp_path / "test" / "dog" / "larger.png"
    Image.fromarray(pixels(9, 9, 3)).save(other)
    with pytest.raises(DynamoError, match=r"larger\.png has 9 x 9 pixels, .* 6 x 7: give size="):
        make("image-folder", root=tmp_path)
    other.write_bytes(b"no picture")
    with pytest.raises(DynamoError, match=r"larger\.png cannot be read as an image"):
        make("image-folder", root=tmp_path)
    other.unlink()
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "eel")
    with pytest.raises(DynamoError, match="folders of the same names; only one has 'dog'"):
        make("image-folder", root=tmp_path)

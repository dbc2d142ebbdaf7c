"""Picture files as people have them: read as they look, or refused by name; no other program is started."""

import os
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import dynamo
from dynamo import DynamoError
from dynamo_images import pictures
from dynamo_images.folder import find_pictures
from dynamo_images.pictures import read_picture
from test_images import make, pixels, write_folder

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program ``gs`` that leaves a trace when it is started."""
    trace = tmp_path / "bin" / "started"
    trace.parent.mkdir()
    for name in ("gs", "gswin64c", "djpeg"):
        program = trace.parent / name
        program.write_text(f"#!/bin/sh\necho 10\ntouch {trace}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{trace.parent}{os.pathsep}{os.environ['PATH']}")
    return trace


def test_formats_that_start_programs_are_refused(tmp_path, ghostscript):
    write_folder(tmp_path / "data")
    place = tmp_path / "data" / "train" / "cat" / "9.png"
    place.write_bytes(EPS)
    with Image.open(place) as image, pytest.raises((OSError, ValueError)):
        image.load()  # the attack works on Pillow as it is
    assert ghostscript.exists()
    ghostscript.unlink()
    with pytest.raises(DynamoError, match=r"9\.png cannot be read as an image"):
        make("image-folder", root=tmp_path / "data")
    assert not ghostscript.exists()


@pytest.mark.parametrize("form", ["EPS", "PCX", "TGA", "ICO", "PDF", "SGI", "DDS", "IM", "MSP", "SPIDER"])
def test_formats_that_are_not_named_are_refused(tmp_path, form):
    kind = {"MSP": "1", "SPIDER": "F"}.get(form, "RGB")
    Image.new(kind, (32, 32)).save(tmp_path / "x", format=form)
    (tmp_path / "x").rename(tmp_path / "x.png")
    with pytest.raises(DynamoError, match=r"x\.png cannot be read as an image"):
        read_picture(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "ppm", "tif", "webp", "jp2", "jpg"])
def test_every_format_gives_the_pixels_of_the_picture(tmp_path, suffix):
    image = np.zeros((6, 9, 3), dtype=np.uint8)
    image[:, :4] = (200, 30, 60)
    path = tmp_path / f"x.{suffix}"
    options = {"webp": {"lossless": True}, "jp2": {"irreversible": False}, "jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(image).save(path, **options.get(suffix, {}))
    found = read_picture(path).permute(1, 2, 0).numpy()
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), image, atol=40 if suffix == "jpg" else 0)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_as_its_camera_says(tmp_path, turn):
    """The eight orientations of EXIF, each written as a camera stores the picture that was seen."""
    seen = pixels(5, 8, 3)
    stored = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.transpose(1, 0, 2),
        6: seen.transpose(1, 0, 2)[::-1],
        7: seen.transpose(1, 0, 2)[::-1, ::-1],
        8: seen.transpose(1, 0, 2)[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "x.png").permute(1, 2, 0).numpy(), seen)


@pytest.mark.parametrize(
    ("array", "suffix"),
    [
        (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000, "png"),
        (np.arange(64, dtype=np.uint16).reshape(8, 8) * 60, "tif"),
        (np.arange(64, dtype=np.int32).reshape(8, 8), "tif"),
        (np.arange(64, dtype=np.float32).reshape(8, 8) / 64, "tiff"),
    ],
    ids=["16 bits", "12 bits", "32 bits", "float"],
)
def test_pictures_of_an_unknown_range_are_refused_by_name(tmp_path, array, suffix):
    Image.fromarray(array).save(tmp_path / f"deep.{suffix}")
    with pytest.raises(DynamoError, match=rf"deep\.{suffix} has pixels of more than 8 bits .*save it with 8"):
        read_picture(tmp_path / f"deep.{suffix}")


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white_and_opaque_ones_unchanged(tmp_path, kind):
    image = Image.new("RGBA", (4, 3), (10, 10, 10, 255))
    image.putpixel((0, 0), (10, 10, 10, 0))
    image.convert(kind).save(tmp_path / "x.png")
    found = read_picture(tmp_path / "x.png")
    assert found[:, 0, 0].tolist() == [255] * 3
    assert found[:, 1:].unique().tolist() == [10]


def test_pictures_of_absurd_size_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    Image.new("1", (8193, 8192)).save(tmp_path / "wide.png")
    with pytest.raises(DynamoError, match=r"has 8,193 x 8,192 pixels, and 67,108,864 are the most"):
        read_picture(tmp_path / "wide.png")
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(DynamoError, match=r"bomb\.png cannot be read as an image"):
        read_picture(tmp_path / "bomb.png")
    Image.new("1", (2**20, 1)).save(tmp_path / "line.png")
    with pytest.raises(DynamoError, match=r"line\.png has .* pixels"):  # 9 thousand million, when it is scaled
        read_picture(tmp_path / "line.png", size=96)
    monkeypatch.setattr(pictures, "_MOST_BYTES", 10)
    with pytest.raises(DynamoError, match="and 10 are the most"):
        read_picture(tmp_path / "wide.png")


def test_several_pictures_in_a_file_are_refused(tmp_path):
    frames = [Image.fromarray(pixels(6, 7, 3)) for _ in range(3)]
    for name in ("moving.gif", "pages.tif", "moving.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(DynamoError, match=rf"{name} has 3 pictures: keep one"):
            read_picture(tmp_path / name)


def test_a_preview_behind_a_cameras_picture_is_not_looked_at(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "x.mpo", save_all=True, append_images=frames[1:])
    (tmp_path / "x.mpo").rename(tmp_path / "x.jpg")
    assert read_picture(tmp_path / "x.jpg").unique().tolist() == [255]


def test_pipes_and_devices_are_no_pictures(tmp_path):
    write_folder(tmp_path)
    os.mkfifo(tmp_path / "train" / "cat" / "a.png")
    with pytest.raises(DynamoError, match=r"a\.png: it is no regular file"):
        make("image-folder", root=tmp_path)
    (tmp_path / "train" / "cat" / "a.png").unlink()
    (tmp_path / "train" / "cat" / "a.png").symlink_to("/dev/zero")
    with pytest.raises(DynamoError, match=r"a\.png: it is no regular file"):
        make("image-folder", root=tmp_path)


# Folders


def test_hidden_folders_are_no_classes_and_hidden_files_no_pictures(tmp_path):
    write_folder(tmp_path)
    wanted = make("image-folder", root=tmp_path)
    for part in ("train", "test"):
        for place in (".ipynb_checkpoints", "cat/.ipynb_checkpoints", "__MACOSX", "cat/deep/.thumbnails"):
            (tmp_path / part / place).mkdir(parents=True)
            shutil.copy(next((tmp_path / part / "cat").glob("*.png")), tmp_path / part / place / "0.png")
        for name in (".DS_Store", "cat/._0.png", "cat/Thumbs.db"):
            (tmp_path / part / name).write_bytes(b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = make("image-folder", root=tmp_path)
    assert found.outputs.size == 2
    assert found.fingerprint() == wanted.fingerprint()


def test_files_that_are_passed_over_are_counted(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / "dog" / "b.psd").write_bytes(b"x")
    (tmp_path / "train" / "notes.txt").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"2 files in .*train are no pictures of a class.* the first is .*notes\.txt"):
        assert len(make("image-folder", root=tmp_path).train) == 6


def test_all_named_formats_count(tmp_path):
    """Half of the files as GIF: none is left out."""
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number, suffix in enumerate(("gif", "PNG", "jp2", "Webp", "pgm", "tif")):
                Image.fromarray(pixels(8, 8)).save(tmp_path / part / name / f"{number}.{suffix}")
    assert len(make("image-folder", root=tmp_path).train) == 12


def test_a_class_without_pictures_is_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "test" / "eel").mkdir()
    with pytest.raises(DynamoError, match=r"test/eel has no pictures \(\.bmp, .*give each class a folder"):
        make("image-folder", root=tmp_path)


def test_folders_that_lead_to_themselves_end(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / "cat" / "again").symlink_to(tmp_path / "train" / "cat")
    assert len(find_pictures(tmp_path / "train")["cat"]) == 3


def test_the_order_is_that_of_torchvision(tmp_path):
    """So that a data set has the fingerprint that it had."""
    from torchvision.datasets import ImageFolder

    for name in ("b/2.png", "b/10.png", "b/a/1.png", "b/A/1.png", "b-c/1.png", "B/x.png", "b/a b/1.png", "b/a.b/1.png"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(2, 2, 3)).save(tmp_path / "train" / name)
    found = find_pictures(tmp_path / "train")
    wanted = ImageFolder(tmp_path / "train")
    assert list(found) == wanted.classes
    assert [str(file) for own in found.values() for file in own] == [file for file, _ in wanted.samples]


# Arrays


def test_channels_first_are_told(tmp_path, capsys):
    arrays = {f"x_{part}": pixels(20, 3, 16, 16) for part in ("train", "test")}
    labels = {f"y_{part}": np.arange(20) % 3 for part in ("train", "test")}
    np.savez(tmp_path / "chw.npz", **arrays, **labels)
    data = f"image-arrays:path={tmp_path / 'chw.npz'}"
    assert dynamo("train", tmp_path / "p", "-a", "cifar-resnet:depth=8,width=4", "-d", data) == 2
    assert "looks like channels first" in capsys.readouterr().err
    np.savez(tmp_path / "chw.npz", **{key: x.transpose(0, 2, 3, 1) for key, x in arrays.items()}, **labels)
    assert make("image-arrays", path=tmp_path / "chw.npz").inputs.shape == (3, 16, 16)


@pytest.mark.parametrize("dtype", ["u2", "i1", "i4", "f2", "f4", "f8", "c8", "?", "M8[s]", "U1"])
def test_images_of_another_type_are_refused_by_its_name(tmp_path, dtype):
    x, y = np.zeros((4, 3, 3), dtype=dtype), np.arange(4)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(DynamoError, match=rf"x is {re.escape(str(np.dtype(dtype)))} .*must be uint8"):
        make("image-arrays", path=tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">i4", "<u2"])
def test_labels_of_every_whole_type_are_the_same(tmp_path, dtype):
    x, y = pixels(4, 3, 3), np.array([0, 1, 100, 2])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y.astype(dtype), x_test=x, y_test=y)
    assert make("image-arrays", path=tmp_path / "a.npz").train.targets.tolist() == y.tolist()


def test_a_label_beyond_all_bounds_is_refused(tmp_path):
    x, y = pixels(4, 3, 3), np.array([0, 1, 2, 2**64 - 1], dtype=np.uint64)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(DynamoError, match="y has the class 18446744073709551615"):
        make("image-arrays", path=tmp_path / "a.npz")


def test_unknown_arrays_are_refused(tmp_path):
    x, y = pixels(4, 3, 3), np.arange(4)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y, x_valid=x)
    with pytest.raises(DynamoError, match="the array 'x_valid', which nothing would read"):
        make("image-arrays", path=tmp_path / "a.npz")


def test_a_picture_read_is_contiguous(tmp_path):
    Image.fromarray(pixels(5, 6, 3)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").is_contiguous()
    assert read_picture(tmp_path / "x.png").dtype == torch.uint8

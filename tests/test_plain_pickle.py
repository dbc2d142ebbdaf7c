"""Pickles of arrays of bytes: those of every Python and numpy are read, and nothing else comes out or is run."""

import io
import pickle
import pickletools
import resource
import subprocess
import sys

import numpy as np
import pytest

from dynamo import DynamoError
from dynamo_images.cifar import read_batch
from dynamo_images.plain_pickle import read_plain
from test_images import Python2Pickler, pixels

LABELS = [3, 1, 255, 0, 70000]


def written(content, protocol):
    return pickle.dumps(content, protocol=protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("old", [False, True], ids=["numpy 2", "numpy 1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_python_3_writes_is_read(protocol, old, order):
    data = np.asarray(pixels(5, 7), order=order)
    content = {
        "batch_label": "training batch 1 of 5 é",
        "data": data,
        "labels": LABELS,
        "filenames": ["a.png", "b.png"],
    }
    pickled = written({**content, "nothing": None, "flags": (True, False, (), [], {})}, protocol)
    if old:
        pickled = pickled.replace(b"numpy._core.", b"numpy.core.").replace(b"\x8c\x16numpy", b"\x8c\x15numpy")
        pickled = pickled.replace(b"\x8c\x13numpy.core", b"\x8c\x12numpy.core")
        pickled = pickletools.optimize(pickled) if protocol < 4 else pickled
        if protocol >= 4:  # the frame is as many bytes shorter
            start = pickled.index(b"\x95") + 1
            length = int.from_bytes(pickled[start : start + 8], "little") - 1
            pickled = pickled[:start] + length.to_bytes(8, "little") + pickled[start + 8 :]
    found = read_plain(pickled)
    assert np.array_equal(found.pop("data"), data)
    assert {key: found[key] for key in ("batch_label", "labels", "filenames")} == {
        key: content[key] for key in ("batch_label", "labels", "filenames")
    }


def test_what_python_2_writes_is_read():
    data, buffer = pixels(5, 7), io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump({"batch_label": "x", "data": data, "labels": LABELS})
    found = read_plain(buffer.getvalue())
    assert np.array_equal(found["data"], data)
    assert found["labels"] == LABELS


def test_keys_that_are_bytes_are_read_as_text():
    """Of batches that Python 3 has read with encoding="bytes" and written again."""
    assert read_plain(written({b"labels": [1], b"data": pixels(1, 2)}, 4))["labels"] == [1]


def forged():
    """An array whose bytes numpy would read as pointers to objects: the dtype says V8, its state that it has fields of
    objects.
    """
    return (
        b"\x80\x02}(X\x04\x00\x00\x00datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00x\x85}X\x01"
        b"\x00\x00\x00xcnumpy\ndtype\nX\x01\x00\x00\x00O\x85RK\x00\x86sK\x08K\x01K\x00tb\x89C\x08AAAAAAAAtb"
        b"X\x06\x00\x00\x00labels](K\x01eu."
    )


def test_an_array_of_pointers_is_refused(tmp_path):
    (tmp_path / "batch").write_bytes(forged())
    code = "import sys, pickle; x = pickle.load(open(sys.argv[1], 'rb')); print(x['data'])"
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path / "batch")], capture_output=True, check=False)
    assert died.returncode < 0, "the attack no longer works on numpy itself: this test shows nothing"
    with pytest.raises(DynamoError, match=r"is no file of the official archive.*it asks for numpy\.dtype"):
        read_batch(tmp_path / "batch", "labels")


class Calls:
    """Asks for a call when it is unpickled."""

    def __init__(self, function, *arguments):
        self.told = (function, arguments)

    def __reduce__(self):
        return self.told

    def __repr__(self):
        return f"a call of {self.told[0].__name__}"


@pytest.mark.parametrize(
    "item",
    [
        Calls(eval, "1"),
        Calls(print, "called"),
        Calls(np.frombuffer, b"abc", "u1"),
        Calls(bytes, 10**12),
        Calls(np.zeros, 10**12),
        np.zeros((2, 2), dtype=np.float32),
        np.zeros((2, 2), dtype=np.uint16),
        np.zeros((2, 2), dtype=bool),
        np.zeros(2, dtype=[("a", "u1")]),
        np.array([{}], dtype=object),
        np.uint8(3),
        {1: 2},
        {(): 2},
        {1, 2},
        1.5,
        10**400,
        b"ok",
    ],
    ids=lambda item: repr(item)[:40],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_plain_values_are_read_and_all_else_is_refused(item, protocol, capsys):
    pickled = written({"data": item}, protocol)
    if isinstance(item, bytes | int):
        assert read_plain(pickled)["data"] == item
    else:
        with pytest.raises(Exception, match=r"."):
            read_plain(pickled)
    assert not capsys.readouterr().out


def test_an_error_does_not_quote_the_file(tmp_path):
    """A mutation made a name of the pixels, and the message was as long as they are."""
    for pickled in (
        b"\x80\x04B" + (10**6).to_bytes(4, "little") + b"x" * 10**6 + b"\x8c\x01x\x93)R.",
        b"c" + b"y" * 10**6 + b"\nx\n)R.",
    ):
        (tmp_path / "batch").write_bytes(pickled)
        with pytest.raises(DynamoError) as error:
            read_batch(tmp_path / "batch", "labels")
        assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo of two thousand million entries
        b"\x80\x02" + b")" + b"\x85" * 10**6 + b".",  # a million tuples, one in another
        b"\x80\x02" + b"(" * 10**5 + b"t" * 10**5 + b".",
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.",  # bytes that are not there
        b"\x80\x02}(]q\x00h\x00h\x00e.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"I" + b"9" * 10**5 + b"\n.",
        b"",
        b".",
        b"}",
        b"}.",
    ],
    ids=range(11),
)
def test_hostile_pickles_take_neither_memory_nor_time(pickled):
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(Exception, match=r"^") as error:
        assert read_plain(pickled) != {}
    assert not isinstance(error.value, MemoryError)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 4e5
    assert after.ru_utime - before.ru_utime < 20

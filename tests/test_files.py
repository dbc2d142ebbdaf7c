"""Files: regular ones alone are read, within bounds; nothing is written through a link, and no foreign file removed."""

import csv
import gzip
import io
import os
import socket
import stat
from pathlib import Path

import numpy as np
import pytest

from command_line import dynamo
from dynamo import DynamoError, Fit, FitOptions, Population, Trainer
from dynamo.contracts.files import name_after, read_arrays, read_bytes, read_gzip, read_text, refuse_links, write_bytes
from dynamo.fit.run_folder import add_file
from dynamo.population.recording import record
from dynamo.system.locks import locked
from dynamo.system.storage import check_writable, write_csv
from problems import fitted
from test_population import on_digits

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and links are made as on Unix")


def irregular(folder):
    """Whatever has a name and is no regular file."""
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    return [folder / name for name in ("pipe", "zero", "folder", "socket")]


# Reading


def test_regular_files_alone_are_read(tmp_path):
    for path in irregular(tmp_path):
        for read in (read_bytes, read_text, lambda path: read_gzip(path, most=10), lambda path: read_arrays(path, ())):
            with pytest.raises(DynamoError, match=rf"cannot read {path}: it is no regular file"):
                read(path)


def test_a_file_has_a_bound(tmp_path):
    (tmp_path / "large").write_bytes(b"12345")
    assert read_bytes(tmp_path / "large", most=5) == b"12345"
    with pytest.raises(DynamoError, match="it has 5 bytes, and 4 are the most"):
        read_bytes(tmp_path / "large", most=4)
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**42)
    with pytest.raises(DynamoError, match="are the most"):
        read_bytes(tmp_path / "sparse")


def test_what_is_unpacked_has_a_bound(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2**24)))
    assert read_gzip(tmp_path / "bomb.gz", most=2**24) == bytes(2**24)
    with pytest.raises(DynamoError, match="unpacks to more than 16,777,215 bytes"):
        read_gzip(tmp_path / "bomb.gz", most=2**24 - 1)


def test_links_are_followed_where_they_stay_inside(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "own").write_bytes(b"own")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "folder" / "inner").symlink_to("own")
    (tmp_path / "folder" / "outer").symlink_to(tmp_path / "secret")
    (tmp_path / "alias").symlink_to("folder")
    for folder in (tmp_path / "folder", tmp_path / "alias"):
        assert read_bytes(folder / "inner", within=folder) == b"own"
        with pytest.raises(DynamoError, match="is a link that leaves its folder"):
            read_bytes(folder / "outer", within=folder)
    assert read_bytes(tmp_path / "folder" / "outer") == b"secret"


@pytest.mark.parametrize("name", ["run.toml", "fit.safetensors", "history.csv", "fidelity.csv"])
def test_a_run_is_not_read_through_links_that_leave_it(tmp_path, name):
    fit, _ = fitted()
    fit.save(tmp_path / "run")
    if name == "fidelity.csv":
        (tmp_path / "run" / name).write_text("name\n")
        add_file(tmp_path / "run", name)
    (tmp_path / "run" / name).rename(tmp_path / name)
    (tmp_path / "run" / name).symlink_to(tmp_path / name)
    with pytest.raises(DynamoError, match=rf"{name} is a link that leaves its folder"):
        Fit.load(tmp_path / "run") if name != "fidelity.csv" else read_fidelity(tmp_path / "run")


def read_fidelity(folder):
    from dynamo.fit.fidelity import read_fidelity

    return read_fidelity(folder)


def test_arrays_of_other_names_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3), attention_mask_train=np.zeros(3))
    with pytest.raises(
        DynamoError, match=r"'attention_mask_train', which nothing would read.*did you mean 'mask_train'"
    ):
        read_arrays(tmp_path / "a.npz", ("x", "mask_train"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("digits.npz", "digits"),
        ("v1.2_b.npz", "v1.2_b"),
        ("my data.npz", "my-data"),
        ("données (1).npz", "donnees-1"),
        ("cafe\u0301.npz", "cafe"),
        ("_x.npz", "x"),
        ("a,b.npz", "a-b"),
        ("数据.npz", "data"),
        ("[/x].npz", "x"),
        (f"{'ä' * 200}.npz", "a" * 60),
    ],
)
def test_names_after_files_are_names_of_models(name, found):
    assert name_after(Path(name)) == found


def test_models_are_named_after_files_of_any_name(tmp_path):
    random = np.random.default_rng(0)
    arrays = {f"x_{part}": random.normal(size=(8, 3, 2)) for part in ("train", "test")}
    path = tmp_path / "données (1).npz"
    np.savez(path, **arrays, y_train=np.arange(8) % 2, y_test=np.arange(8) % 2)
    dynamo("train", tmp_path / "p", "-a", "gru:hidden_size=2", "-d", f"arrays:path={path}", "--epochs", 1)
    assert [base.name for base in Population.load(tmp_path / "p")] == ["donnees-1-gru-100-s0"]


# Writing


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_is_obeyed(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "a", b"")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "a").symlink_to("mine")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "mine").read_text() == "precious"
    assert not (tmp_path / "a").is_symlink()


def test_links_below_a_folder_are_refused_and_the_folder_itself_may_be_one(tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "alias").symlink_to("elsewhere")
    refuse_links(tmp_path / "alias", tmp_path / "alias" / "deep" / "new")
    with pytest.raises(DynamoError, match=r"alias is a link, and nothing is written through links"):
        refuse_links(tmp_path, tmp_path / "alias" / "deep" / "new")


@pytest.mark.parametrize("form", ["folder", "model", "file"])
def test_recordings_stay_in_their_folder(tmp_path, form):
    population = Population([on_digits("a", 0)])
    elsewhere, recording = tmp_path / "elsewhere", tmp_path / "run" / "recording"
    (elsewhere / "a").mkdir(parents=True)
    (elsewhere / "a" / "0.bin").write_text("precious")
    place = {"folder": recording, "model": recording / "a", "file": recording / "a" / "0.bin"}[form]
    place.parent.mkdir(parents=True)
    place.symlink_to(elsewhere / place.relative_to(recording))
    if form == "file":  # the link goes, and what it led to stays
        record(population, recording)
    else:
        with pytest.raises(DynamoError, match="is a link, and nothing is written through links"):
            record(population, recording)
    assert (elsewhere / "a" / "0.bin").read_text() == "precious"


def test_an_unfinished_run_does_not_write_elsewhere(tmp_path):
    """The whole command, with the folder of recordings a link."""
    population = Population([on_digits("a", 0), on_digits("b", 1)])
    population.save(tmp_path / "p")
    (tmp_path / "elsewhere" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere" / "a" / "0.bin").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recording").symlink_to(tmp_path / "elsewhere")
    told = ["--recording", "disk", "--steps", 2, "--theta-dim", 2, "--meta-model", "gru:hidden_size=3"]
    assert dynamo("fit", tmp_path / "p", "-o", tmp_path / "run", *told) == 2
    assert (tmp_path / "elsewhere" / "a" / "0.bin").read_text() == "precious"


def test_weights_are_not_written_through_a_link(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "p" / "weights").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DynamoError, match="weights is a link"):
        Population([on_digits("a", 0)]).save(tmp_path / "p")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_analysis_does_not_write_through_a_link_of_the_run(tmp_path, capsys):
    fitted()[0].save(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "clusters").symlink_to(tmp_path / "elsewhere")
    assert dynamo("analyse", "clusters", tmp_path / "run") == 2
    assert "clusters is a link" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


# What is not ours


def test_foreign_files_stay(tmp_path):
    names = [".lock", ".cache.partial", ".probe.partial", "video.partial", ".dynamo-notes.partial"]
    for name in names:
        (tmp_path / name).write_text("precious")
    left = tmp_path / f".dynamo-{'0a' * 8}.partial"
    left.write_text("half")
    with locked(tmp_path):
        check_writable(tmp_path)
    assert [(tmp_path / name).read_text() for name in names] == ["precious"] * len(names)
    assert not left.exists()


@pytest.mark.parametrize("form", ["text", "pipe", "hard link"])
def test_a_foreign_lock_stays(tmp_path, form):
    path, other = tmp_path / ".dynamo.lock", tmp_path / "other"
    if form == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("precious" if form == "text" else "process 3 on precious")
    if form == "hard link":
        other.hardlink_to(path)
    with pytest.raises(DynamoError, match="is no lock of this program"), locked(tmp_path):
        pass
    assert path.exists()
    assert form == "pipe" or "precious" in path.read_text()


# Tables


def test_text_is_no_formula_for_a_spreadsheet(tmp_path):
    harmful = ["=1+1", '=HYPERLINK("http://x","y")', "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"]
    harmless = ["-1.5", "+3", "-1e-3", "a=b", "", "a-b", "-inf", "'", "x\ny"]
    numbers = [-1.5, -3, True]
    cells = [*harmful, *harmless, *numbers]
    write_csv(tmp_path / "t.csv", ["=name", "b"], [(cell, -1) for cell in cells])
    content = (tmp_path / "t.csv").read_bytes().decode()
    rows = list(csv.reader(io.StringIO(content, newline="")))
    assert rows[0] == ["'=name", "b"]
    cells = [row[0] for row in rows[1:]]
    assert cells == [f"'{text}".replace("\r", "\n") for text in harmful] + harmless + ["-1.5", "-3", "True"]


def test_recordings_on_disk_are_made_anew(tmp_path):
    """In the same folder twice, also where the first ones are still in use."""
    population = Population([on_digits("a", 0)])
    options = FitOptions(meta_model="gru:hidden_size=3", theta_dim=2, steps=1, recording="disk")
    first, second = (Trainer(population, options).record(tmp_path / "recording")[0] for _ in range(2))
    assert first.trajectory.states[0].equal(second.trajectory.states[0])


def test_files_that_are_missing_or_unusable_are_told_by_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_bytes(tmp_path / "none")
    with pytest.raises(OSError, match="no regular file"):
        read_bytes(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DynamoError, match="cannot write"):
        write_bytes(tmp_path / "file" / "below", b"")

"""glibc keeps the memory of a step for the next one, unless it was told what to do."""

import os
import platform
import subprocess
import sys

import pytest

from dynamo import FitOptions, Trainer
from dynamo.contracts.options import Spec
from dynamo.system import allocator
from dynamo.training import base_models, trainer
from problems import dataset, population

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

#: Prints how many pages are taken anew in 20 rounds of four blocks of 12 MiB, after the first rounds.
ROUNDS = """
import ctypes, resource, runpy, sys

keep_freed_memory = runpy.run_path(sys.argv[1])["keep_freed_memory"]
was_set = keep_freed_memory() if "keep" in sys.argv else None
library, size = ctypes.CDLL(None), 12 * 2**20
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def rounds(count):
    for _ in range(count):
        blocks = [library.malloc(size) for _ in range(4)]
        for block in blocks:
            library.memset(block, 1, size)
        for block in blocks:
            library.free(block)

rounds(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(20)
print(was_set, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 20 * 4 * 12 * 2**20 // os.sysconf("SC_PAGE_SIZE")


def faults(*arguments, **settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", ROUNDS, allocator.__file__, *arguments]
    told = subprocess.run(command, env={**kept, **settings}, capture_output=True, text=True, check=True).stdout.split()
    return told[0], int(told[1])


def test_memory_is_not_taken_anew_in_every_round():
    assert faults()[1] > PAGES / 2
    was_set, taken = faults("keep")
    assert was_set == "True"
    assert taken < PAGES / 100


@pytest.mark.parametrize(
    "setting", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_what_was_set_stays(setting):
    was_set, taken = faults("keep", **setting)
    assert was_set == "False"
    assert taken > PAGES / 2


def test_a_fit_and_the_training_of_a_base_model_set_it(monkeypatch):
    calls = []
    for module in (trainer, base_models):
        monkeypatch.setattr(module, "keep_freed_memory", lambda name=module.__name__: calls.append(name))
    Trainer(population(), FitOptions(meta_model="gru:hidden_size=4,embedding_size=3", theta_dim=2))
    assert calls == ["dynamo.training.trainer"]
    job = base_models.Job("m", Spec.parse("gru:hidden_size=3"), 1.0, 0)
    next(base_models.train_base_model(job, dataset(), base_models.BaseTrainingOptions(epochs=1)))
    assert calls == ["dynamo.training.trainer", "dynamo.training.base_models"]

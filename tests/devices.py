"""The devices that tests run on: one that is not there (see ``fake_device``), and a GPU where there is one."""

import gc
from contextlib import contextmanager

import torch

from fake_device import FakeDevice

#: Why tests of a GPU are left out.
NO_GPU = "torch.cuda.is_available() is False: there is no GPU here"


class GPU:
    """The first GPU, its products as exact as those of the CPU."""

    name = "cuda"

    def __enter__(self):
        self._before = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        return self

    def __exit__(self, *error):
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = self._before
        gc.collect()
        torch.cuda.empty_cache()

    @contextmanager
    def no_waiting(self):
        """While this holds, waiting for the GPU is an error."""
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    @contextmanager
    def used(self):
        """What is done here runs on the GPU: it takes memory there."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        assert torch.cuda.max_memory_allocated() > before


class Fake(FakeDevice):
    """A device that is not there, by its kind."""

    def __init__(self, kind):
        super().__init__(f"{kind}:0")
        self.name = kind

    @contextmanager
    def used(self):
        """What is done here runs on the device."""
        before = self.ran.total()
        yield
        assert self.ran.total() > before

"""Small networks are faster on one thread, and two test runs at once do not wait for each other."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Torch on one thread, as the recipes' command has it; the test is skipped without the extra `train`."""
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

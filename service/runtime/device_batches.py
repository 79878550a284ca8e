"""Batches of a device with memory of its own, through io-binding: in from pinned memory, out once.

Run in the tests on the CPU's memory; on a GPU it was not run.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.runtime.providers import Made

Feeds = dict[str, npt.NDArray[Any]]
Run = Callable[[list[str], Feeds, ort.RunOptions | None], list[npt.NDArray[Any]]]


def run_of(made: Made) -> Run:
    """How a session runs a batch: bound where its device has memory of its own, else as it is."""
    plain: Run = made.session.run
    return DeviceBatches(made).run if made.is_remote else plain


class DeviceBatches:
    """Runs of one session with bound inputs and outputs.

    Parameters
    ----------
    made : Made
        With ``staging``, inputs are written into that memory, which the device copies from without help of the CPU.
    """

    def __init__(self, made: Made) -> None:
        self._session = made.session
        self._staging = made.staging

    def run(self, names: list[str], feeds: Feeds, options: ort.RunOptions | None) -> list[npt.NDArray[Any]]:
        """Named outputs, as `InferenceSession.run` gives them."""
        binding = self._session.io_binding()
        for name, feed in feeds.items():
            binding.bind_ortvalue_input(name, self._staged(np.ascontiguousarray(feed)))
        for name in names:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding, options)
        return list(binding.copy_outputs_to_cpu())

    def _staged(self, feed: npt.NDArray[Any]) -> ort.OrtValue:
        if self._staging is None or feed.dtype.kind == "O":  # text stays on the CPU
            return ort.OrtValue.ortvalue_from_numpy(feed)
        value = ort.OrtValue.ortvalue_from_shape_and_type(feed.shape, feed.dtype, memory_info=self._staging)
        value.update_inplace(feed)
        return value

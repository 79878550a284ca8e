"""A server that a verb starts for itself, and requests to it.

Tested in tests/api/test_bench.py and tests/cli/test_capacity_command.py.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from service import main as composition
from service.api import bench
from service.api.bench import BenchFailed
from service.api.v1.verbs import VERBS
from service.data.dataset import read_rows
from service.runtime.model import Model
from service.settings import Settings

OF_CALLERS: Final = (
    *("host", "uds", "ssl_certfile", "ssl_keyfile", "ssl_keyfile_password_file", "ssl_ca_certs"),
    *("keys", "jwt_issuers", "client_certificate_header", "quota_requests", "quota_rows"),
)
"""Settings that such a server leaves at their defaults: it is called from this machine, without a key."""
OF_ROWS: Final = [name for name, verb in VERBS.items() if verb.report is None]
"""Verbs that answer every row: a report may need labels."""


@contextmanager
def own_server(settings: Settings, data: Path, *, defaults: Sequence[str] = OF_CALLERS) -> Iterator[bench.Address]:
    """A server in a process of its own, with its data in a directory: the keys of the service's own are not at hand.

    Parameters
    ----------
    settings : Settings
    data : Path
    defaults : sequence of str
        Settings that are left at their defaults.
    """
    kept = {name: value for name, value in settings if name in settings.model_fields_set.difference(defaults)}
    open_to_this_machine = Settings.model_construct(**kept).model_copy(update={"data": data})
    with bench.running(_serve, open_to_this_machine) as server:
        yield server


def _serve(settings: Settings, port: int) -> None:
    composition.serve(settings.model_copy(update={"port": port}))


def instances(model: Model, data: Path | None, rows: int) -> bytes:
    """Body of a request with so many rows: those of a data set, again and again, or synthetic ones.

    Raises
    ------
    BenchFailed
        If the model takes more than columns of numbers.
    """
    found = model.inputs.synthetic() if data is None else read_rows(data, model.manifest, inputs=model.inputs)
    if not isinstance(found, np.ndarray):
        raise BenchFailed(f"{model.bundle.title} takes more than columns of numbers; bench sends nothing else")
    chosen = np.resize(found, (rows, found.shape[1]))
    cells = [[None if cell != cell else cell for cell in row] for row in chosen.tolist()]  # noqa: PLR0124  # NaN
    return json.dumps({"instances": cells}).encode()

"""The model that a path names, by the form of the paths of both protocols."""

import re
from typing import Final

_MODEL: Final = re.compile(r"/v[12]/models/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})(?=[/:]|\Z)")
_STATISTICS: Final = "/v2/models/stats"


def within(path: str, root_path: str) -> str:
    """A path without the root path under which a proxy shows the service.

    Examples
    --------
    >>> within("/temperance/readyz", "/temperance"), within("/readyz", "/temperance")
    ('/readyz', '/readyz')
    """
    rest = path.removeprefix(root_path)
    return rest if rest.startswith("/") else path


def model_in(path: str) -> str | None:
    """The model's name in a path; None where it names none.

    Examples
    --------
    >>> model_in("/v1/models/thyroid/labels/stable:predict"), model_in("/v2/models/thyroid"), model_in("/v1/models")
    ('thyroid', 'thyroid', None)
    """
    found = _MODEL.match(path)
    return None if found is None or path == _STATISTICS else found["name"]

"""Options that the verbs of `temperance audit` share, and the store and secrets that they name.

Tested in tests/cli/test_audit_command.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import click
from pydantic import ValidationError

from service.bundle.manifest import describe
from service.errors import SettingsInvalid
from service.record_places import store_url
from service.settings import PREFIX, Settings
from service.store.engine import Store, open_store
from service.store.signing import Signer

Decorator = Callable[..., Any]
NAMES: Final = ("data", "store", "secrets", "anchors")


def place_options(*names: str) -> Callable[[Decorator], Decorator]:
    """Options of where the record and its keys lie; `settings_of` takes their values."""

    def add(verb: Decorator) -> Decorator:
        for name in reversed(names):
            verb = click.option(
                f"--{name}", envvar=f"{PREFIX}{name.upper()}", show_envvar=True, help=HELP[name], metavar=METAVARS[name]
            )(verb)
        return verb

    return add


def settings_of(flags: dict[str, Any]) -> Settings:
    """Settings with the values of `place_options`, which are taken out of a verb's keywords.

    Raises
    ------
    SettingsInvalid
    """
    given = {name: flags.pop(name) for name in NAMES if flags.get(name) is not None}
    for name in NAMES:
        flags.pop(name, None)
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsInvalid(f"{PREFIX}{describe(error)}") from None


@contextmanager
def opened(settings: Settings, signer: Signer | None = None) -> Iterator[Store]:
    """The store of the settings, which must be there.

    Raises
    ------
    SettingsInvalid, StoreUnavailable
    """
    url = store_url(settings)
    path = Path(unquote(urlsplit(url).path))
    if urlsplit(url).scheme == "sqlite" and not path.exists():
        raise SettingsInvalid(f"{path}: there is no record; name it with --store, or its folder with --data")
    store = open_store(url, signer=signer)
    try:
        yield store
    finally:
        store.close()


def moment(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Microseconds since 1970 of a date or a time, in UTC where it names no zone."""
    del context, option
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("a date (2027-01-31), or a time (2027-01-31T12:00:00Z)") from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000)


HELP: Final = {
    "data": "Data directory of the service.  [default: .temperance]",
    "store": "URL of the store.  [default: audit.db in the data directory]",
    "secrets": "File of secrets.  [default: secrets.json in the data directory]",
    "anchors": "File of anchors.  [default: anchors.jsonl in the data directory]",
}
METAVARS: Final = {"data": "DIRECTORY", "store": "URL", "secrets": "FILE", "anchors": "FILE"}

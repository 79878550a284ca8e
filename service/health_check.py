"""The health check of the image, `python -m service.health_check`: exit code 0 when `/readyz` answers 200, else 1.

It reads the variables that the service reads, and no option of its command line. It runs every few seconds, so it
imports little. `http.client`, unlike `urllib`, uses no proxy that the environment names.
"""

import os
import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final

from service.service_links import service_links

SECONDS: Final = 2.0
PORT: Final = 8000
ANY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104  # compared with, not listened on


def main() -> None:
    """End the process by the state of the service, with a line that Docker keeps."""
    try:
        status, text = state_of(os.environ)
    except (OSError, HTTPException, ValueError) as error:
        sys.exit(f"no answer: {error}")
    if status != 200:
        sys.exit(f"not ready: status {status}: {text}")


def state_of(environment: Mapping[str, str]) -> tuple[int, str]:
    """Status and body of `/readyz`.

    Parameters
    ----------
    environment : mapping of str to str

    Raises
    ------
    OSError, HTTPException
        If nothing answers.
    """
    connection = _connection(environment)
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    return answer.status, answer.read(1000).decode(errors="replace")


def _connection(environment: Mapping[str, str]) -> HTTPConnection:
    host, port = address_of(environment)
    if not environment.get("TEMPERANCE_SSL_CERTFILE"):
        return HTTPConnection(host, port, timeout=SECONDS)
    # The certificate is not checked: it names other hosts, and the connection does not leave the container.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=SECONDS, context=context)


def address_of(environment: Mapping[str, str]) -> tuple[str, int]:
    """Host and port on which the service of these variables answers.

    Parameters
    ----------
    environment : mapping of str to str

    Examples
    --------
    >>> address_of({"TEMPERANCE_HOST": "0.0.0.0", "PORT": "8080"})
    ('localhost', 8080)
    >>> address_of({"TEMPERANCE_PORT": "9000", "PORT": "8080"})
    ('localhost', 9000)
    """
    host = environment.get("TEMPERANCE_HOST", "")
    links = service_links(environment, "TEMPERANCE_")
    ours = None if "TEMPERANCE_PORT" in links else environment.get("TEMPERANCE_PORT")
    return "localhost" if host in ANY_ADDRESS else host, int(ours or environment.get("PORT") or PORT)


if __name__ == "__main__":
    main()

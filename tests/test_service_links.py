"""Variables of Kubernetes: ignored by their names and values, and nothing else is."""

import pytest

from service.service_links import service_links

OF_TEMPERANCE = {
    "TEMPERANCE_SERVICE_HOST": "10.96.3.7",
    "TEMPERANCE_SERVICE_PORT": "8000",
    "TEMPERANCE_SERVICE_PORT_HTTP": "8000",
    "TEMPERANCE_SERVICE_PORT_GRPC_WEB": "8001",
    "TEMPERANCE_PORT": "tcp://10.96.3.7:8000",
    "TEMPERANCE_PORT_8000_TCP": "tcp://10.96.3.7:8000",
    "TEMPERANCE_PORT_8000_TCP_PROTO": "tcp",
    "TEMPERANCE_PORT_8000_TCP_PORT": "8000",
    "TEMPERANCE_PORT_8000_TCP_ADDR": "10.96.3.7",
    "TEMPERANCE_PORT_53_UDP": "udp://10.96.3.7:53",
    "TEMPERANCE_PORT_53_UDP_PROTO": "udp",
    "TEMPERANCE_PORT_53_UDP_PORT": "53",
    "TEMPERANCE_PORT_53_UDP_ADDR": "fd00::7",
    "TEMPERANCE_PORT_9_SCTP": "sctp://[fd00::7]:9",
    "TEMPERANCE_PORT_9_SCTP_PROTO": "sctp",
}
OF_ANOTHER = {
    f"TEMPERANCE_{service}_{name.removeprefix('TEMPERANCE_')}": value
    for service in ("API", "MODELS", "BLUE_2", "PORT", "SERVICE")
    for name, value in OF_TEMPERANCE.items()
}
SETTINGS_AND_MISTAKES = {
    "TEMPERANCE_PORT": "8000",
    "TEMPERANCE_PORTS": "tcp://10.96.3.7:8000",
    "TEMPERANCE_HOST": "10.96.3.7",
    "TEMPERANCE_SERVICE": "10.96.3.7",
    "TEMPERANCE_SERVICE_PORT": "many",
    "TEMPERANCE_SERVICE_HOST": "",
    "TEMPERANCE_SERVICE_HOSTS": "10.96.3.7",
    "TEMPERANCE_PORT_8000": "tcp://10.96.3.7:8000",
    "TEMPERANCE_PORT_HTTP_TCP": "tcp://10.96.3.7:8000",
    "TEMPERANCE_PORT_8000_TCP": "10.96.3.7:8000",
    "TEMPERANCE_PORT_8000_TCP_PROTO": "http",
    "TEMPERANCE_PORT_8000_TCP_NAME": "http",
    "TEMPERANCE_API_PORT": "8000",
    "TEMPERANCE_API_HOST": "10.96.3.7",
    "temperance_service_port": "8000",
    "OTHER_SERVICE_PORT": "8000",
}


@pytest.mark.parametrize(("name", "value"), [*OF_TEMPERANCE.items(), *OF_ANOTHER.items()])
def test_a_variable_of_a_service_is_a_link(name: str, value: str) -> None:
    assert service_links({name: value}, "TEMPERANCE_") == [name]


@pytest.mark.parametrize(("name", "value"), SETTINGS_AND_MISTAKES.items())
def test_no_other_variable_is(name: str, value: str) -> None:
    assert service_links({name: value}, "TEMPERANCE_") == []


def test_links_are_listed_in_order() -> None:
    assert service_links(OF_TEMPERANCE | {"PATH": "/bin"}, "TEMPERANCE_") == sorted(OF_TEMPERANCE)

"""Callers: what everyone may do where the service is open."""

from service.access.caller import ANONYMOUS, SCOPES


def test_where_the_service_is_open_everyone_may_do_everything_to_every_model() -> None:
    assert ANONYMOUS.scopes == set(SCOPES)
    assert ANONYMOUS.models is None
    assert (ANONYMOUS.requests, ANONYMOUS.rows) == (0, 0)

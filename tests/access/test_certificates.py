"""Callers that a proxy knows by their certificate."""

import pytest

from service.access.certificates import Certificates
from service.errors import Unauthenticated

CERTIFICATES = Certificates(frozenset({"predict", "outcomes"}))


@pytest.mark.parametrize(
    "subject", [b"CN=ehr", b"CN=ehr,O=Hospital,C=CH", b"/C=CH/CN=a b", b"CN=caf\\C3\\A9", b"x" * 256]
)
def test_a_subject_is_the_name_of_a_caller_with_the_scopes_of_the_settings(subject: bytes) -> None:
    caller = CERTIFICATES.caller(subject)
    assert caller.name == f"certificate:{subject.decode()}"
    assert caller.scopes == {"predict", "outcomes"}
    assert caller.models is None


@pytest.mark.parametrize(
    "subject", [b"", b" ", b"CN=ehr ", b" CN=ehr", b"x" * 257, b"CN=\xc3\xa9", b"CN=a\nb", b"\x00"]
)
def test_a_subject_that_cannot_be_a_name_is_refused_and_not_repeated(subject: bytes) -> None:
    with pytest.raises(Unauthenticated, match="names no subject") as refused:
        CERTIFICATES.caller(subject)
    assert "CN" not in str(refused.value)

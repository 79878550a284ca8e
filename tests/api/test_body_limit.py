"""The limit on bodies grows with what served models take, between its bounds."""

from service.api.body_limit import SMALLEST_BODY_LIMIT, body_limit
from service.runtime.registry import Registry


def test_the_body_limit_is_what_the_widest_request_can_need(shipped: Registry, features: list[str]) -> None:
    most = 1 << 40
    smallest = sum(len(f'"{name}": -1.2345678901234567e-100, ') for name in features)
    assert body_limit(shipped, rows=10_000, most=most) >= 10_000 * smallest
    assert body_limit(shipped, rows=20_000, most=most) == 2 * body_limit(shipped, rows=10_000, most=most)
    assert body_limit(shipped, rows=1, most=most) == SMALLEST_BODY_LIMIT
    assert body_limit(shipped, rows=10_000, most=SMALLEST_BODY_LIMIT) == SMALLEST_BODY_LIMIT

"""Callers are served in start-time fair order; the items of one keep their order."""

from collections.abc import Iterable
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from service.prediction.fair_order import MOST_IDLE, FairOrder

CALLERS = "abc"
Step = tuple[str, int] | None
"""An item of a caller and its size, or the moment at which one is served."""

items = st.tuples(st.sampled_from(CALLERS), st.integers(1, 100))
steps = st.lists(st.none() | items, max_size=80)


def served(script: Iterable[Step]) -> list[int]:
    """Numbers of the items in the order in which they are served."""
    order: FairOrder[int] = FairOrder()
    found, count = [], 0
    for step in script:
        if step is not None:
            order.push(count, caller=step[0], size=step[1])
            count += 1
        elif order:
            found.append(_next(order))
    while order:
        found.append(_next(order))
    return found


def _next(order: FairOrder[int]) -> int:
    entry = order.pop()
    order.serve(entry)
    return entry[2]


def by_definition(script: Iterable[Step]) -> list[int]:
    """The same, written down as the paper defines it, with no heap and exact numbers."""
    waiting: list[tuple[Fraction, int]] = []
    ends: dict[str, Fraction] = {}
    now, found, count = Fraction(0), [], 0

    def serve() -> None:
        nonlocal now
        first = min(waiting)
        waiting.remove(first)
        now = first[0]
        found.append(first[1])

    for step in script:
        if step is not None:
            start = max(now, ends.get(step[0], Fraction(0)))
            ends[step[0]] = start + step[1]
            waiting.append((start, count))
            count += 1
        elif waiting:
            serve()
    while waiting:
        serve()
    return found


@given(steps)
def test_items_are_served_in_the_order_that_the_paper_defines(script: list[Step]) -> None:
    assert served(script) == by_definition(script)


@given(st.lists(st.none() | st.integers(1, 100), max_size=80))
def test_items_of_a_single_caller_are_served_in_the_order_of_arrival(sizes: list[int | None]) -> None:
    found = served([None if size is None else ("a", size) for size in sizes])
    assert found == sorted(found)


@given(st.integers(1, 300), st.integers(1, 50), st.integers(1, 50))
def test_no_caller_waits_for_more_of_another_than_for_as_much_as_it_sends(many: int, large: int, own: int) -> None:
    script = [("noisy", large)] * many + [("quiet", own)] * 3
    before = [served(script).index(many + i) - i for i in range(3)]
    assert all(count * large <= i * own + large for i, count in enumerate(before))


@given(st.lists(items, max_size=80))
def test_callers_that_wait_are_served_alike_but_for_two_items(sizes: list[tuple[str, int]]) -> None:
    done = dict.fromkeys(CALLERS, 0)
    pending = {caller: sum(step[0] == caller for step in sizes) for caller in CALLERS}
    largest = max((size for _, size in sizes), default=0)
    for number in served(sizes):
        caller, size = sizes[number]
        done[caller] += size
        pending[caller] -= 1
        waiting = [name for name in CALLERS if pending[name]]
        assert all(abs(done[one] - done[other]) <= 2 * largest for one in waiting for other in waiting)


def test_items_that_were_put_back_keep_their_places() -> None:
    order: FairOrder[str] = FairOrder()
    for item in "wxyz":
        order.push(item, caller=item, size=1.0)
    first, second = order.pop(), order.pop()
    order.put_back([second, first])
    assert [order.pop()[2] for _ in range(4)] == list("wxyz")


def test_items_that_are_over_are_removed_and_the_order_of_the_others_stays() -> None:
    order: FairOrder[int] = FairOrder()
    for item in range(20):
        order.push(item, caller=str(item % 3), size=1.0 + item % 5)
    order.remove(lambda item: item % 2 == 0)
    left = [order.pop()[2] for _ in range(len(order))]
    assert sorted(left) == list(range(1, 20, 2))


def test_what_a_caller_had_before_a_pause_counts_no_more() -> None:
    order: FairOrder[str] = FairOrder()
    order.push("much", caller="a", size=1000.0)
    order.serve(order.pop())
    order.restart()
    order.push("first", caller="a", size=1.0)
    order.push("second", caller="b", size=1.0)
    assert [order.pop()[2], order.pop()[2]] == ["first", "second"]


def test_callers_of_whom_nothing_waits_are_forgotten() -> None:
    order: FairOrder[int] = FairOrder()
    for number in range(3 * MOST_IDLE):
        order.push(number, caller=str(number), size=1.0)
        order.serve(order.pop())
        order.push(-1, caller="steady", size=1.0)
        order.serve(order.pop())
    assert len(order._ends) <= MOST_IDLE + 1  # memory is what is tested


def test_callers_that_send_once_are_forgotten_though_something_always_waits() -> None:
    """As where every user of an application has a token: virtual time stands still while each is new."""
    order: FairOrder[int] = FairOrder()
    order.push(-1, caller="waits", size=1.0)
    for number in range(3 * MOST_IDLE):
        order.push(number, caller=str(number), size=1.0)
        order.serve(order.pop())
    assert len(order._ends) <= MOST_IDLE + 2  # memory is what is tested

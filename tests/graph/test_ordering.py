"""A graph whose operators wait for each other, or compute a tensor twice, is refused before anything follows it."""

import onnx
import pytest

from service.graph.ordering import LONGEST_NAME, order_faults
from tests.graph.mutants import FLOAT, info, model, node, tensor

X, S = [info("x", FLOAT, ["N", 2])], [info("s", FLOAT, ["N", 2])]
LOOPS = {
    "two that pass on": [node("Identity", "s", "t"), node("Identity", "t", "s")],
    "a cast of itself": [node("Cast", "s", "s", to=FLOAT)],
    "beside a sound part": [node("Relu", "x", "r"), node("Add", "r s", "t"), node("Softmax", "t", "s")],
}
TWICE = {
    "two operators": model([node("Relu", "x", "s"), node("Softmax", "x", "s")], X, S),
    "one operator": model([node("Split", "x", "s s", axis=1)], X, S),
    "an operator and an initialiser": model([node("Relu", "x", "s")], X, S, (tensor("s", [1.0]),)),
    "two initialisers": model([node("Add", "x w", "s")], X, S, (tensor("w", [1.0]), tensor("w", [2.0]))),
}


@pytest.mark.parametrize("name", LOOPS)
def test_operators_that_wait_for_each_other_are_named(name: str) -> None:
    (fault,) = order_faults(model(LOOPS[name], X, S).graph)
    assert fault.endswith("takes, through other operators, what it computes itself")


def test_an_operator_inside_a_branch_can_wait_too() -> None:
    inner = onnx.helper.make_graph([node("Relu", "s", "y")], "inner", [], [info("y", FLOAT, ["N"])])
    waiting = node("If", "c", "s", then_branch=inner, else_branch=inner)
    assert list(order_faults(model([waiting], X, S).graph)) == [
        "If takes, through other operators, what it computes itself"
    ]


@pytest.mark.parametrize("name", TWICE)
def test_a_tensor_that_is_there_twice_is_named(name: str) -> None:
    (fault,) = order_faults(TWICE[name].graph)
    assert "is there twice" in fault


def test_any_order_in_which_operators_can_run_is_sound() -> None:
    assert list(order_faults(model([node("Softmax", "t", "s"), node("Relu", "x", "t")], X, S).graph)) == []


def test_names_that_no_message_can_hold_are_refused() -> None:
    (fault,) = order_faults(model([node("Relu", "x", "s" * (LONGEST_NAME + 1))], X, S).graph)
    assert fault == "a name in it has more than 1000 characters"

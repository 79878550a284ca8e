from pathlib import Path

from service.bundle.manifest import MANIFEST_FILE, parse_manifest
from service.fitting.cost_warnings import never_taken, tied_costs

SHIPPED = "breast-cancer"


COSTS = """
[policies.walk]
on_ood = "{on_ood}"
[policies.walk.costs]
go = {{ benign = 0, malignant = 5 }}
ask = {{ benign = 2, malignant = 6 }}
stay = {{ benign = 1, malignant = 6 }}
turn = {{ benign = 9, malignant = 0 }}
"""


def test_actions_that_no_costs_choose_are_named_with_what_beats_them(draft: Path) -> None:
    text = (draft / MANIFEST_FILE).read_text()
    assert never_taken(parse_manifest(text)) == []  # 3 is more than 1 in every class, but flagged rows are deferred
    found = never_taken(parse_manifest(text + COSTS.format(on_ood="ask")))
    assert found == ["policy 'walk': action 'stay' is never taken: 'go' costs no more in any class"]
    assert len(never_taken(parse_manifest(text + COSTS.format(on_ood="flag")))) == 2


def test_costs_that_drown_beside_a_dear_one_are_named(draft: Path) -> None:
    text = (draft / MANIFEST_FILE).read_text()
    assert tied_costs(parse_manifest(text)) == []
    shipped = COSTS.format(on_ood="ask")
    assert tied_costs(parse_manifest(text + shipped)) == []
    dear = text.replace("malignant = 50", "malignant = 1e9")
    assert dear != text
    (found,) = tied_costs(parse_manifest(dear))
    assert "policy 'biopsy'" in found
    assert "class 'malignant' the costs of 'biopsy' and 'defer'" in found

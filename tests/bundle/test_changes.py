import pytest

from service.bundle.changes import changes
from service.bundle.manifest import parse_manifest

TEXT = """\
schema = 1
title = "t"
[graph]
output = "scores"
output_kind = "logits"
classes = ["ann", "bob"]
[[inputs]]
name = "x"
features = ["a", "b"]
[features.a]
unit = "mm"
plausible = [0.0, 1.0]
[policies.triage]
on_ood = "ask"
[policies.triage.costs]
go = { ann = 0, bob = 5 }
ask = { ann = 3, bob = 3 }
[sites.here]
prevalence = { ann = 0.9, bob = 0.1 }
"""
EDITS = {
    "a price": ("bob = 5", "bob = 7", "policy 'triage': costs.go.bob was 5.0 and is 7.0"),
    "an action": ("ask = { ann", "see = { ann = 1, bob = 1 }\nask = { ann", "costs.see.ann was absent and is 1.0"),
    "what a flag does": ('on_ood = "ask"', 'on_ood = "flag"', "on_ood was ask and is flag"),
    "the default": ("[policies.triage]\n", "[policies.triage]\ndefault = true\n", None),
    "a policy's name": ("policies.triage", "policies.sort", "policy 'triage' was removed"),
    "the order of classes": ('["ann", "bob"]', '["bob", "ann"]', "classes: in another order"),
    "the order of columns": ('["a", "b"]', '["b", "a"]', "columns of input 'x': in another order"),
    "a column": ('["a", "b"]', '["a", "b", "c"]', "columns of input 'x': 'c' added"),
    "an input": ('name = "x"', 'name = "z"', "inputs: 'x' no longer there"),
    "a unit": ('unit = "mm"', 'unit = "cm"', "declaration of feature 'a': unit was mm and is cm"),
    "a site": ("ann = 0.9, bob = 0.1", "ann = 0.8, bob = 0.2", "site 'here': prevalence.ann was 0.9 and is 0.8"),
    "a title": ('title = "t"', 'title = "u"', None),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_clients_notice_is_listed_in_words(name: str) -> None:
    old, new, sentence = EDITS[name]
    assert old in TEXT
    found = changes(parse_manifest(TEXT), parse_manifest(TEXT.replace(old, new)))
    assert (sentence is None) == (found == [])
    assert sentence is None or any(sentence in change for change in found)


def test_equal_manifests_have_no_changes() -> None:
    assert changes(parse_manifest(TEXT), parse_manifest(TEXT)) == []

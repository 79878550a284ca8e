import tomllib

import pytest

from service.bundle.manifest import BINDING_SECTIONS, Manifest, parse_manifest
from service.bundle.sections import check_prevalence, misread
from service.bundle.tasks import TASKS
from service.core.ood import RULES, SCORES
from service.errors import ManifestInvalid

VALID = """\
schema = 1
title = "a title"

[graph]
output = "scores"
output_kind = "logits"
classes = ["healthy", "ill"]

[[inputs]]
name = "x"
features = ["age", "pulse"]

[features.age]
plausible = [0.0, 120.0]
missing = "reject"

[training]
loss = "weighted"
class_weights = { healthy = 1.0, ill = 9.0 }
prevalence = { healthy = 0.9, ill = 0.1 }

[ood]
scores = ["nll", "mahalanobis"]
false_alarm = 0.1
gate = ["nll", "mahalanobis", "range"]

[sites.ward]
prevalence = { healthy = 0.5, ill = 0.5 }

[policies.triage]
default = true
on_ood = "call"
[policies.triage.costs]
wait = { healthy = 0, ill = 50 }
call = { healthy = 1, ill = 1 }
"""

SECOND_DEFAULT = """\
[policies.other]
default = true
costs.wait = { healthy = 0, ill = 1 }
costs.call = { healthy = 1, ill = 0 }
"""

WEIGHTED = 'loss = "weighted"\nclass_weights = { healthy = 1.0, ill = 9.0 }'

PER_CLASS = ("", "per_class = false", "per_class = true")

REFUSED = {
    "what a column may hold beside its input": (
        'name = "x"',
        'name = "x"\nallowed = [0, 8]',
        "allowed belongs to a tensor",
    ),
    "categories of two kinds": ("plausible = [0.0, 120.0]", 'categories = [1, "a"]', "features.age.categories"),
    "categories with a range": ("plausible = [0.0, 120.0]", "plausible = [0.0, 1.0]\ncategories = [1, 2]", "no ranges"),
    "an unknown key": ('title = "a title"', 'title = "a title"\ncolour = "red"', "colour"),
    "an unknown key in a section": ('output = "scores"', 'output = "scores"\nshape = 2', "graph.shape"),
    "an unknown section": ("[graph]", "[grahp]", "graph: is required"),
    "a missing title": ('title = "a title"', "", "title: is required"),
    "another schema": ("schema = 1", "schema = 2", "schema"),
    "a boolean schema": ("schema = 1", "schema = true", "schema"),
    "an empty title": ('title = "a title"', 'title = ""', "title"),
    "text that is not TOML": ("schema = 1", "schema == 1", "is not TOML"),
    "an unknown output kind": ('output_kind = "logits"', 'output_kind = "scores"', "graph.output_kind"),
    "a sigmoid of labels": ('"logits"', '"sigmoid_logits"', "graph: output_kind 'sigmoid_logits'"),
    "sigmoid probabilities": (
        '"logits"',
        '"sigmoid_probabilities"',
        "'probabilities' (or 'logits' before the sigmoid)",
    ),
    "an unknown task": ('output = "scores"', 'output = "scores"\ntask = "regression"', "graph.task"),
    "a single class": ('classes = ["healthy", "ill"]', 'classes = ["ill"]', "graph.classes"),
    "a class named twice": ('classes = ["healthy", "ill"]', 'classes = ["ill", "ill"]', "'ill' is named twice"),
    "a number as a class": ('classes = ["healthy", "ill"]', "classes = [0, 1]", "graph.classes.0"),
    "another class axis": ('output = "scores"', 'output = "scores"\nclass_axis = 0', "class_axis"),
    "a floor of zero": ('output = "scores"', 'output = "scores"\nprobability_floor = 0.0', "graph.probability_floor"),
    "a floor as text": (
        'output = "scores"',
        'output = "scores"\nprobability_floor = "1e-7"',
        "graph.probability_floor",
    ),
    "no inputs": ('[[inputs]]\nname = "x"\nfeatures = ["age", "pulse"]', "", "inputs: is required"),
    "an input twice": ("[features.age]", '[[inputs]]\nname = "x"\n[features.age]', "inputs: 'x' is named twice"),
    "a feature twice": ('["age", "pulse"]', '["age", "age"]', "features: 'age' is named twice"),
    "an empty feature list": ('["age", "pulse"]', "[]", "inputs.0.features"),
    "a table for a feature that no input takes": ("[features.age]", "[features.height]", "features: 'height'"),
    "a plausible range upside down": ("[0.0, 120.0]", "[120.0, 0.0]", "features.age: plausible"),
    "an empty plausible range": ("[0.0, 120.0]", "[5.0, 5.0]", "features.age: plausible"),
    "a plausible range beyond the allowed": (
        "plausible = [0.0, 120.0]",
        "plausible = [0, 9]\nallowed = [0, 5]",
        "within allowed",
    ),
    "an allowed range upside down": ("plausible = [0.0, 120.0]", "allowed = [1, 0]", "features.age: allowed"),
    "an infinite bound": ("[0.0, 120.0]", "[0.0, inf]", "features.age.plausible.1"),
    "a bound as text": ("[0.0, 120.0]", '["0", 120.0]', "features.age.plausible.0"),
    "a bound too many": ("[0.0, 120.0]", "[0.0, 1.0, 2.0]", "features.age.plausible"),
    "an unknown missing rule": ('missing = "reject"', 'missing = "drop"', "features.age.missing"),
    "a substitute that is nan": ('missing = "reject"', "missing = { impute = nan }", "features.age.missing"),
    "a distance over missing values": ('missing = "reject"', 'missing = "nan"', "ood.scores: feature scores"),
    "an unknown loss": ('loss = "weighted"', 'loss = "hinge"', "training.loss"),
    "a weighted loss without weights": ("class_weights = { healthy = 1.0, ill = 9.0 }", "", "training: loss"),
    "weights without the weighted loss": ('loss = "weighted"', 'loss = "cross_entropy"', "training: loss"),
    "a weight for half the classes": (", ill = 9.0", "", "training.class_weights: class 'ill' is missing"),
    "a weight for an unknown class": ("ill = 9.0", "ill = 9.0, odd = 1.0", "training.class_weights: 'odd'"),
    "a weight of zero": ("ill = 9.0", "ill = 0.0", "training.class_weights.ill"),
    "a boolean weight": ("ill = 9.0", "ill = true", "training.class_weights.ill"),
    "a focal loss without gamma": (WEIGHTED, 'loss = "focal"', "training: loss = 'focal' and gamma belong together"),
    "gamma without the focal loss": ('loss = "weighted"', 'loss = "weighted"\ngamma = 2.0', "'focal' and gamma"),
    "alpha without the focal loss": (
        'loss = "weighted"',
        'loss = "weighted"\nalpha = { healthy = 1.0, ill = 3.0 }',
        "training: alpha belongs to loss = 'focal'",
    ),
    "alpha for half the classes": (
        WEIGHTED,
        'loss = "focal"\ngamma = 2.0\nalpha = { ill = 3.0 }',
        "training.alpha: class 'healthy' is missing",
    ),
    "label smoothing without epsilon": (WEIGHTED, 'loss = "label_smoothing"', "'label_smoothing' and epsilon"),
    "epsilon without label smoothing": ('loss = "weighted"', 'loss = "weighted"\nepsilon = 0.1', "and epsilon belong"),
    "an epsilon of one": (WEIGHTED, 'loss = "label_smoothing"\nepsilon = 1.0', "training.epsilon"),
    "a negative gamma": (WEIGHTED, 'loss = "focal"\ngamma = -1.0', "training.gamma"),
    "distillation without tau": (WEIGHTED, 'loss = "distillation"', "'distillation' and tau"),
    "tau without distillation": ('loss = "weighted"', 'loss = "weighted"\ntau = 2.0', "'distillation' and tau"),
    "a mixing parameter without mixup": (
        'loss = "weighted"',
        'loss = "weighted"\nmixup_alpha = 0.2',
        "training: mixup_alpha belongs to loss = 'mixup'",
    ),
    "a mixing parameter of zero": (WEIGHTED, 'loss = "mixup"\nmixup_alpha = 0', "training.mixup_alpha"),
    "a teacher's share without a teacher": (
        'loss = "weighted"',
        'loss = "weighted"\nsoft_share = 0.9',
        "training: soft_share belongs to loss = 'distillation'",
    ),
    "a teacher's share above one": (
        WEIGHTED,
        'loss = "distillation"\ntau = 4\nsoft_share = 1.1',
        "training.soft_share",
    ),
    "smoothness without neighbours": (
        WEIGHTED,
        'loss = "cross_entropy"\nsmoothness = 1.0',
        "training.smoothness: belongs to task = 'sequence' with loss = 'cross_entropy'",
    ),
    "a negative smoothness": (WEIGHTED, "smoothness = -1.0", "training.smoothness: must be greater than or equal to 0"),
    "an infinite gamma": (WEIGHTED, 'loss = "focal"\ngamma = inf', "training.gamma"),
    "a training prevalence of 1.1": ("ill = 0.1", "ill = 0.2", "training.prevalence: the shares must sum to 1"),
    "a share of zero": ("ill = 0.1", "ill = 0", "training.prevalence.ill"),
    "a share as text": ("ill = 0.1", 'ill = "0.1"', "training.prevalence.ill"),
    "an unknown score": ('scores = ["nll", "mahalanobis"]', 'scores = ["nll", "magic"]', "ood: scores: 'magic'"),
    "a score twice": ('scores = ["nll", "mahalanobis"]', 'scores = ["nll", "nll"]', "scores: 'nll' is named twice"),
    "a gate member that is not computed": (
        'scores = ["nll", "mahalanobis"]',
        'scores = ["nll"]',
        "gate: 'mahalanobis'",
    ),
    "an unknown gate member": ('"mahalanobis", "range"]', '"knn"]', "gate: 'knn'"),
    "a score that two classes make constant": (
        'scores = ["nll", "mahalanobis"]',
        'scores = ["nll", "mahalanobis", "logit_norm"]',
        "ood.scores: 'logit_norm' has the same value for every row of two classes",
    ),
    "an empty gate": ('gate = ["nll", "mahalanobis", "range"]', "gate = []", "ood.gate"),
    "a false-alarm rate of one": ("false_alarm = 0.1", "false_alarm = 1.0", "ood.false_alarm"),
    "a boolean false-alarm rate": ("false_alarm = 0.1", "false_alarm = true", "ood.false_alarm"),
    "a tensor that no score looks at": (
        'scores = ["nll", "mahalanobis"]\nfalse_alarm = 0.1\ngate = ["nll", "mahalanobis", "range"]',
        'scores = ["nll", "entropy"]\nspace = "hidden"',
        "ood: space is 'hidden', and none of the scores looks at it; those that do are mahalanobis, relative_mahal",
    ),
    "a tensor that the gate's usual score does not look at": (
        'scores = ["nll", "mahalanobis"]\nfalse_alarm = 0.1\ngate = ["nll", "mahalanobis", "range"]',
        'gate = ["nll"]\nspace = "hidden"',
        "ood: space is 'hidden', and none of the scores looks at it",
    ),
    "a choice of thresholds as text": ("false_alarm = 0.1", 'per_class = "yes"', "ood.per_class"),
    "a site that sums to 1.2": ("ill = 0.5 }", "ill = 0.7 }", "sites.ward.prevalence: the shares must sum to 1"),
    "a site without a class": (", ill = 0.5 }", " }", "sites.ward.prevalence: class 'ill' is missing"),
    "a negative share": ("ill = 0.5 }", "ill = -0.5 }", "sites.ward.prevalence.ill"),
    "an unknown action on OOD": ('on_ood = "call"', 'on_ood = "defer"', "on_ood: 'defer'"),
    "an action called flag": ("wait = {", "flag = {", "no action may be called 'flag'"),
    "a boolean as text": ("default = true", 'default = "yes"', "policies.triage.default"),
    "a boolean as a number": ("default = true", "default = 1", "policies.triage.default"),
    "a single action": ("wait = { healthy = 0, ill = 50 }", "", "policies.triage.costs"),
    "a class missing in a cost row": (", ill = 50", "", "policies.triage.costs.wait: class 'ill' is missing"),
    "an unknown class in a cost row": ("ill = 50", "ill = 50, odd = 1", "policies.triage.costs.wait: 'odd'"),
    "a cost that is nan": ("ill = 50", "ill = nan", "policies.triage.costs.wait.ill"),
    "an infinite cost": ("ill = 50", "ill = inf", "policies.triage.costs.wait.ill"),
    "a boolean cost": ("ill = 50", "ill = true", "policies.triage.costs.wait.ill"),
    "a cost as text": ("ill = 50", 'ill = "50"', "policies.triage.costs.wait.ill"),
    "a cost that overflows a sum": ("ill = 50", "ill = 1e308", "policies.triage.costs.wait.ill"),
    "two defaults": ("[sites.ward]", f"{SECOND_DEFAULT}[sites.ward]", "policies: only one of them can be the default"),
    "costs of labels": ("[policies.triage.costs]", "[policies.triage.labels.ill.costs]", "policies.triage"),
    "a switch between sequence steps": ("default = true", "default = true\nswitch = 0.5", "policies.triage.switch"),
}


def edited(old: str, new: str) -> str:
    assert old in VALID
    return VALID.replace(old, new, 1)


@pytest.mark.parametrize(("old", "new", "fragment"), REFUSED.values(), ids=REFUSED.keys())
def test_a_manifest_is_refused_in_one_line_that_names_the_key(old: str, new: str, fragment: str) -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest(edited(old, new), where="models/m/draft/manifest.toml")
    message = str(refusal.value)
    assert message.startswith("models/m/draft/manifest.toml")
    assert fragment in message
    assert "\n" not in message


def test_a_refusal_counts_the_other_faults() -> None:
    with pytest.raises(ManifestInvalid, match=r"and 1 more"):
        parse_manifest(edited("healthy = 0, ill = 50", "healthy = nan, ill = nan"))


def test_a_valid_manifest_is_read_as_written() -> None:
    manifest = parse_manifest(VALID)
    assert manifest.columns == ("age", "pulse")
    assert manifest.graph.classes == ("healthy", "ill")
    assert (manifest.policies["triage"].costs or {})["wait"] == {"healthy": 0.0, "ill": 50.0}
    assert manifest.features["age"].plausible == (0.0, 120.0)


def test_defaults_are_those_of_the_design() -> None:
    manifest = parse_manifest(
        'schema = 1\ntitle = "t"\n[graph]\noutput = "z"\noutput_kind = "logits"\nclasses = ["a", "b"]\n'
        '[[inputs]]\nname = "x"\n'
    )
    assert manifest.graph.task == "multiclass"
    assert manifest.graph.probability_floor == 1e-7
    assert manifest.training.loss == "cross_entropy"
    assert (manifest.ood.scores, manifest.ood.gate_members, manifest.ood.false_alarm) == (("nll",), ("nll",), 0.05)
    assert manifest.columns == ("x",)
    assert manifest.default_policy is None


def test_columns_of_several_inputs_follow_each_other() -> None:
    text = edited("[features.age]", '[[inputs]]\nname = "sex"\n[features.age]')
    assert parse_manifest(text).columns == ("age", "pulse", "sex")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(VALID.replace("default = true\n", ""), "triage", id="the only one"),
        pytest.param(VALID + SECOND_DEFAULT.replace("default = true\n", ""), "triage", id="the one marked"),
        pytest.param((VALID + SECOND_DEFAULT).replace("default = true\n", ""), None, id="several, none marked"),
    ],
)
def test_the_default_policy_is_the_marked_or_the_only_one(text: str, expected: str | None) -> None:
    assert parse_manifest(text).default_policy == expected


def with_scores(*scores: str) -> Manifest:
    ood = {"scores": scores, "gate": [*scores, *RULES]}
    graph = {"output": "scores", "output_kind": "logits", "classes": ["a", "b", "c"]}
    return Manifest.model_validate({"schema": 1, "title": "t", "graph": graph, "inputs": [{"name": "x"}], "ood": ood})


def test_every_registered_score_of_classes_and_every_rule_may_be_configured() -> None:
    fitting = [name for name, score in SCORES.items() if score.needs != "sigmoid_logits"]
    assert with_scores(*fitting).ood.gate_members == (*fitting, *RULES)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.needs == "sigmoid_logits"])
def test_a_score_of_sigmoids_is_refused_for_classes(name: str) -> None:
    with pytest.raises(ValueError, match=rf"ood\.scores: '{name}' reads independent sigmoids, .* task is 'multiclass'"):
        with_scores("nll", name)
    assert misread(name, "multilabel") is None


@pytest.mark.parametrize("name", [n for n, score in SCORES.items() if score.needs in ("logits", "probabilities")])
def test_a_score_of_a_softmax_is_refused_for_labels(name: str) -> None:
    reason = str(misread(name, "multilabel"))
    assert reason.startswith(f"{name!r} reads a softmax")
    assert reason.endswith("'joint_energy' or 'max_label'")
    assert misread(name, "sequence") is None


@pytest.mark.parametrize(
    ("gate", "alphas"),
    [
        ('["nll", "mahalanobis", "range"]', {"nll": 0.05, "mahalanobis": 0.05}),
        ('["mahalanobis", "range"]', {"nll": 0.1, "mahalanobis": 0.1}),
        ('["range"]', {"nll": 0.1, "mahalanobis": 0.1}),
    ],
)
def test_scores_of_the_gate_share_the_false_alarm_rate_and_others_keep_it(gate: str, alphas: dict[str, float]) -> None:
    ood = parse_manifest(edited('["nll", "mahalanobis", "range"]', gate)).ood
    assert {name: ood.alpha(name) for name in ood.scores} == alphas


FREE = {
    "a comment": ("schema = 1", "# why\nschema = 1"),
    "an integer for a float": ("[0.0, 120.0]", "[0, 120]"),
    "a title": ("a title", "another"),
    "a price": ("ill = 50", "ill = 60"),
    "a plausible range": ("120.0", "110.0"),
    "a site": ("healthy = 0.5, ill = 0.5", "healthy = 0.4, ill = 0.6"),
    "a default written out": ('output = "scores"', 'output = "scores"\ntask = "multiclass"\nclass_axis = -1'),
}
BINDING = {
    "graph": ('output = "scores"', 'output = "scores"\nprobability_floor = 1e-6'),
    "inputs": ('["age", "pulse"]', '["age", "rate"]'),
    "training": ("ill = 9.0", "ill = 8.0"),
    "ood": ("false_alarm = 0.1", "false_alarm = 0.2"),
}


@pytest.mark.parametrize(("old", "new"), FREE.values(), ids=FREE.keys())
def test_what_no_calibration_depends_on_leaves_every_fingerprint_alone(old: str, new: str) -> None:
    assert parse_manifest(edited(old, new)).fingerprints() == parse_manifest(VALID).fingerprints()


@pytest.mark.parametrize("section", BINDING_SECTIONS)
def test_a_binding_section_that_changes_moves_its_fingerprint_alone(section: str) -> None:
    before, after = parse_manifest(VALID).fingerprints(), parse_manifest(edited(*BINDING[section])).fingerprints()
    assert [name for name in before if before[name] != after[name]] == [section]


def test_the_order_of_classes_is_part_of_the_fingerprint() -> None:
    turned = parse_manifest(edited('["healthy", "ill"]', '["ill", "healthy"]'))
    assert turned.fingerprints()["graph"] != parse_manifest(VALID).fingerprints()["graph"]


@pytest.mark.parametrize("total", [1.0 - 9e-7, 1.0, 1.0 + 9e-7])
def test_shares_may_miss_one_by_rounding(total: float) -> None:
    check_prevalence("site", {"a": total / 2, "b": total / 2}, ("a", "b"))


@pytest.mark.parametrize("total", [1.0 - 2e-6, 1.0 + 2e-6])
def test_shares_may_not_miss_one_by_more(total: float) -> None:
    with pytest.raises(ValueError, match="site: the shares must sum to 1"):
        check_prevalence("site", {"a": total / 2, "b": total / 2}, ("a", "b"))


def test_a_manifest_is_immutable() -> None:
    manifest = Manifest.model_validate(tomllib.loads(VALID))
    with pytest.raises(ValueError, match="frozen"):
        manifest.title = "another"  # type: ignore[misc]  # that is the point


TENSOR = """\
schema = 1
title = "t"
[graph]
output = "s"
output_kind = "logits"
classes = ["a", "b"]
[[inputs]]
name = "ids"
pad = 0
shape = [512]
[[inputs]]
name = "mask"
mask = true
[[inputs]]
name = "kinds"
fill = 0
"""


def test_what_the_service_fills_is_no_column() -> None:
    manifest = parse_manifest(TENSOR)
    assert manifest.columns == ("ids",)
    assert [entry.is_filled for entry in manifest.inputs] == [False, True, True]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fill = 0", "fill = 0\nmask = true", "exclude each other"),
        ("pad = 0", 'pad = 0\nfeatures = ["a"]', "features name columns"),
        ("fill = 0", "fill = 0\npad = 0", "no features, shape or pad of its own"),
        ("pad = 0\n", "", "no input declares pad"),
        ("pad = 0\nshape = [512]", "fill = 1", "none of them is for a row to fill"),
        ("shape = [512]", "shape = [0]", "greater than or equal to 1"),
    ],
)
def test_an_input_is_columns_or_a_tensor_or_the_service_s(old: str, new: str, message: str) -> None:
    with pytest.raises(ManifestInvalid, match=message):
        parse_manifest(TENSOR.replace(old, new))


@pytest.mark.parametrize("key", ["pad = 1", "shape = [2]"])
def test_a_younger_key_is_part_of_the_fingerprint_only_where_it_is_set(key: str) -> None:
    plain = 'schema = 1\ntitle = "t"\n[graph]\noutput = "s"\noutput_kind = "logits"\nclasses = ["a", "b"]\n'
    plain += '[[inputs]]\nname = "x"\n'
    first_release = "4d259c05"
    assert parse_manifest(plain).fingerprints()["inputs"].startswith(first_release)
    assert not parse_manifest(f"{plain}{key}\n").fingerprints()["inputs"].startswith(first_release)


def test_keys_younger_than_the_schema_leave_old_fingerprints_alone_until_they_are_used() -> None:
    plain, unset, used = (
        parse_manifest(edited("false_alarm = 0.1", f"false_alarm = 0.1\n{line}")) for line in PER_CLASS
    )
    assert plain.fingerprints() == unset.fingerprints()
    assert plain.fingerprints()["ood"] == "850c1e56a648d6441e6086e88f26e003911617b3513c1753d4ce47f0d75fc977"
    assert {s for s, f in used.fingerprints().items() if f != plain.fingerprints()[s]} == {"ood"}


TRAINED = {
    "mixup": ("multiclass", 'loss = "mixup"', "mixup_alpha = 0.2"),
    "distillation": ("multiclass", 'loss = "distillation"\ntau = 4', "soft_share = 0.9"),
    "neighbours": ("sequence", 'loss = "cross_entropy"', "smoothness = 1.0"),
}
OTHER_LOSSES = [loss for loss in TASKS["sequence"].losses if loss != "cross_entropy"]
PARAMETERS = {
    "weighted": "class_weights = { a = 1, b = 2 }",
    "focal": "gamma = 2",
    "label_smoothing": "epsilon = 0.1",
}


def trained(task: str, training: str) -> Manifest:
    return parse_manifest(
        f'schema = 1\ntitle = "t"\n[graph]\ntask = "{task}"\noutput = "z"\noutput_kind = "logits"\n'
        f'classes = ["a", "b"]\n[[inputs]]\nname = "x"\n[training]\n{training}\n'
    )


@pytest.mark.parametrize(("task", "loss", "key"), TRAINED.values(), ids=TRAINED.keys())
def test_how_a_model_was_trained_is_optional_and_part_of_the_fingerprint_where_it_is_set(task, loss, key) -> None:
    without, with_key = trained(task, loss), trained(task, f"{loss}\n{key}")
    name, value = key.split(" = ")
    assert (getattr(without.training, name), getattr(with_key.training, name)) == (None, float(value))
    assert without.fingerprints()["training"] != with_key.fingerprints()["training"]


def test_the_fingerprint_of_training_is_that_of_the_first_release() -> None:
    first_release = "708d7134947a29f3ec01d1b5930d19f77b0de2dd450ee71b99f344c057fa8d9b"
    assert parse_manifest(VALID).fingerprints()["training"] == first_release


@pytest.mark.parametrize("loss", OTHER_LOSSES)
def test_smoothness_belongs_to_the_cross_entropy_of_sequences(loss: str) -> None:
    with pytest.raises(ManifestInvalid, match="smoothness: belongs to task = 'sequence' with loss = 'cross_entropy'"):
        trained("sequence", f'loss = "{loss}"\n{PARAMETERS[loss]}\nsmoothness = 1.0')


def test_a_tensor_alone_waits_for_a_choice_of_scores() -> None:
    gate = 'scores = ["nll", "mahalanobis"]\nfalse_alarm = 0.1\ngate = ["nll", "mahalanobis", "range"]'
    ood = parse_manifest(edited(gate, 'space = "hidden"')).ood
    assert (ood.names_scores, ood.looks_at_tensor, ood.has_feature_scores) == (False, True, False)


@pytest.mark.parametrize(
    ("ood", "named"),
    [("", False), ('gate = ["range"]', False), ('gate = ["nll", "range"]', True), ('scores = ["nll"]', True)],
)
def test_scores_are_named_by_listing_them_or_by_gating_the_usual_one(ood: str, named: bool) -> None:  # noqa: FBT001
    gate = 'scores = ["nll", "mahalanobis"]\nfalse_alarm = 0.1\ngate = ["nll", "mahalanobis", "range"]'
    assert parse_manifest(edited(gate, ood)).ood.names_scores == named


def test_of_many_known_names_some_are_listed() -> None:
    many = ", ".join(f'"f{i}"' for i in range(100))
    text = VALID.replace('features = ["age", "pulse"]', f"features = [{many}]")
    with pytest.raises(ManifestInvalid, match=r"'age' is not one of f0, f1, .*, f11 and 88 more$"):
        parse_manifest(text)


def test_inputs_are_kept_only_where_a_manifest_asks_for_them() -> None:
    assert not parse_manifest(VALID).record.inputs
    kept = parse_manifest(VALID + "\n[record]\ninputs = true\n")
    assert kept.record.inputs
    assert kept.fingerprints() == parse_manifest(VALID).fingerprints()
    with pytest.raises(ManifestInvalid, match=r"record\.outputs"):
        parse_manifest(VALID + "\n[record]\noutputs = true\n")


@pytest.mark.parametrize(
    "listed", ["{}", "{ gpu = {} }", "{ openvino = { tf32 = true } }", "{ cuda = { tolerance = 0.0 } }"]
)
def test_providers_that_cannot_be_accepted_are_refused(listed: str) -> None:
    with pytest.raises(ManifestInvalid, match=r"graph\.providers"):
        parse_manifest(VALID.replace("[graph]\n", f"[graph]\nproviders = {listed}\n"))


def test_listed_providers_are_part_of_what_a_calibration_depends_on_and_none_change_nothing() -> None:
    plain = parse_manifest(VALID)
    text = "providers = { cpu = {}, cuda = { tf32 = true } }"
    listed = parse_manifest(VALID.replace("[graph]\n", f"[graph]\n{text}\n"))
    assert listed.graph.providers is not None
    assert listed.graph.providers.names == ("cpu", "cuda")
    assert listed.fingerprints()["graph"] != plain.fingerprints()["graph"]
    assert "providers" not in str(plain.model_dump(exclude_none=True))

from service.bundle.repository import Repository
from tests.models.intervals import signs
from tests.models.recipes import MODELS, metrics

NAME = "fashion-mnist-student"
ALONE = "no teacher"
TAUS = ("τ = 1", "τ = 2", "τ = 4")
SERVED = {
    (f"{tau}, temperature less {ALONE}, temperature", measure): -1 for tau in TAUS for measure in ("log loss", "KL")
}
AS_TRAINED = {
    (f"{tau}, as trained less {ALONE}, as trained", "log loss"): sign
    for tau, sign in zip(TAUS, (-1, 1, 1), strict=True)
}
ACCURACY = {
    (f"{tau}, temperature less {ALONE}, temperature", "accuracy"): sign
    for tau, sign in zip(TAUS, (1, 1, 0), strict=True)
}


def test_the_card_claims_what_lies_outside_the_noise():
    claims = SERVED | AS_TRAINED | ACCURACY
    assert signs(metrics(NAME), "differences", claims) == claims


def test_a_larger_tau_makes_the_student_more_confident_and_worse_at_finding_digits():
    claims = {(f"{tau} less {ALONE}", "T"): sign for tau, sign in zip(TAUS, (0, 1, 1), strict=True)}
    claims |= {(f"{tau} less {ALONE}", "AUROC of nll"): sign for tau, sign in zip(TAUS, (0, -1, -1), strict=True)}
    claims |= {(f"{tau} less {ALONE}", "AUROC of energy"): sign for tau, sign in zip(TAUS, (0, 0, -1), strict=True)}
    assert signs(metrics(NAME), "separations", claims) == claims


def test_calibration_repairs_the_published_student():
    found = metrics(NAME)
    assert found["params"]["temperature"] > 1.0
    assert found["test"]["calibration_error"] < 0.5 * found["as_trained"]["calibration_error"]
    assert found["test"]["log_loss"] < found["as_trained"]["log_loss"]


def test_the_student_is_smaller_than_its_teacher_and_not_as_good():
    found = metrics(NAME)
    assert 5 * found["parameters"] < found["teacher"]["parameters"]
    assert found["test"]["accuracy_score"] < found["teacher"]["accuracy"]


def test_the_manifest_declares_the_distillation():
    training = Repository(MODELS).bundle(NAME, 1).manifest.training
    assert (training.loss, training.tau, training.soft_share) == ("distillation", 2.0, 0.9)

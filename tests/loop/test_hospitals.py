import numpy as np
import pytest

from tests.loop import hospitals

pytestmark = pytest.mark.skipif(not hospitals.available(), reason=hospitals.REMEDY)


def test_every_patient_has_an_outcome_of_five_years():
    for patients in (hospitals.rotterdam(), hospitals.gbsg()):
        late = patients.days[patients.events == 0]
        assert (late == hospitals.DAYS).all()
        assert (patients.days[patients.events == 1] < hospitals.DAYS).all()
        assert np.isfinite(patients.rows).all()


def test_the_second_hospital_has_more_events():
    first, second = hospitals.rotterdam(), hospitals.gbsg()
    assert (len(first), len(second)) == (2856, 406)
    assert second.events.mean() > first.events.mean() + 0.2

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.fitting.self_test_rows import self_test_rows
from service.runtime.model import Model, load_model
from service.runtime.rows import Fields
from tests.bench.task_models import TEXT, publish_text


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("notes")
    repository = Repository(folder / "models")
    publish_text(repository, folder)
    return load_model(repository.bundle(TEXT, 1))


def test_text_holds_words_of_the_graph_together_and_alone(notes: Model) -> None:
    rows = self_test_rows(notes, ["fever", "cough", "rash"])
    assert isinstance(rows, Fields)
    (cells,) = (values.tolist() for values in rows.others.values() if values.dtype == np.dtype(object))
    assert cells == ["fever rash", "cough", "rash", "fever"]


def test_without_words_rows_are_as_before(notes: Model) -> None:
    rows, before = self_test_rows(notes, []), notes.inputs.synthetic(4)
    assert isinstance(rows, Fields)
    assert isinstance(before, Fields)
    assert {name: values.tolist() for name, values in rows.others.items()} == {
        name: values.tolist() for name, values in before.others.items()
    }


def test_a_fit_keeps_answers_to_words_of_its_graph(notes: Model) -> None:
    state = notes.bundle.state
    (feed,) = (state[name] for name in state if name.startswith("self_test.feed.") and state[name].dtype.kind == "U")
    assert len({str(cell) for cell in feed.ravel()}) > 1
    assert len(np.unique(state["self_test.logits"], axis=0)) > 1


def test_rows_of_numbers_are_many_where_they_are_short(repository: Repository) -> None:
    model = load_model(repository.bundle("breast-cancer", 1))
    rows = self_test_rows(model, ())
    assert isinstance(rows, np.ndarray)
    assert rows.shape == (32, 30)

"""The table of health in `docs/operate.md` is true: a real service is brought into each state and probed."""

from pathlib import Path
from typing import Final

import httpx
import pytest

from service.errors import SettingsInvalid
from service.main import serve
from service.settings import Settings
from tests.bench.servers import free_port
from tests.health_states import STATES, Place, Scene
from tests.runtime.test_proofs_of_a_server import wait_for

PAGE: Final = Path(__file__).parents[1] / "docs" / "operate.md"
REFUSED: Final = "refused"
LOOKS: Final = 3


def table() -> dict[str, dict[str, str]]:
    """What the page says of every state: a cell for every path."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| state of the service |"))
    end = next(i for i, line in enumerate(lines[start:], start) if not line.startswith("|"))
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[start:end])
    paths = [cell.strip("`") for cell in head[1:]]
    return {state: dict(zip(paths, cells, strict=True)) for state, *cells in rows}


def health(place: Place, path: str) -> str:
    """A cell of the table, as a service is now: a status, and of `/readyz` the reason too."""
    try:
        answer = httpx.get(place.url + path.format(name=place.model), timeout=30)
    except httpx.ConnectError:
        return REFUSED
    if answer.status_code == httpx.codes.OK or path != "/readyz":
        return str(answer.status_code)
    return f"{answer.status_code} `{answer.json()['type'].rpartition(':')[2]}`"


def row(place: Place) -> dict[str, str]:
    return {path: health(place, path) for path in table()["it starts"]}


def test_the_table_has_every_state_that_is_tested_here() -> None:
    assert list(table()) == list(STATES)


@pytest.mark.parametrize("state", table())
def test_a_service_in_a_state_is_as_healthy_as_the_table_says(state: str, tmp_path: Path) -> None:
    with STATES[state](Scene.of(tmp_path)) as place:
        expected = table()[state]
        for _ in range(LOOKS):
            assert row(place) == expected


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_first_answer_of_a_start_is_that_of_a_ready_service(workers: str, tmp_path: Path) -> None:
    scene, port = Scene.of(tmp_path), free_port()
    place = Place(f"http://127.0.0.1:{port}")
    seen: list[str] = []

    def answers() -> bool:
        seen.append(health(place, "/readyz"))
        return seen[-1] != REFUSED

    with scene.starting(port, TEMPERANCE_WORKERS=workers) as process:
        wait_for(answers, seconds=60.0)
        assert row(place) == table()["it serves every model"]
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert seen[-1] == "200"
    assert len(seen) > 1


def test_a_service_waits_for_an_expected_model_that_arrives_later(tmp_path: Path) -> None:
    scene = Scene.of(tmp_path)
    variables = {"TEMPERANCE_STRICT_START": "false", "TEMPERANCE_EXPECTED_MODELS": "good, second"}
    with scene.serving(**variables) as server:
        place = Place(server.url, "second")
        reason = httpx.get(f"{server.url}/readyz", timeout=30).json()["detail"]
        assert reason.startswith("1 of 2 expected models cannot be served now")
        assert "second" not in reason  # no credential was needed
        assert "\ntemperance_missing_models 1.0\n" in httpx.get(f"{server.url}/metrics", timeout=30).text
        scene.publish("second")
        wait_for(lambda: health(place, "/readyz") == "200")
        assert "\ntemperance_missing_models 0.0\n" in httpx.get(f"{server.url}/metrics", timeout=30).text


def test_without_an_expected_model_a_strict_start_is_refused_and_names_it(tmp_path: Path) -> None:
    scene = Scene.of(tmp_path)
    settings = Settings(models=scene.repository.root, data=scene.data, expected_models=("second",), port=0)
    with pytest.raises(SettingsInvalid, match=r"'second' is not served.*TEMPERANCE_EXPECTED_MODELS"):
        serve(settings)

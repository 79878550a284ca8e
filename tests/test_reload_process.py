"""Reload as a process: whatever a deployment leaves on disk, `temperance serve` goes on, says so, and follows later."""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from service.bundle.repository import Repository
from tests.damaged_versions import DAMAGES, reseal
from tests.test_main import publish_another_price, serving_workers, wait_for

NAME: Final = "breast-cancer"
Serving = Callable[..., AbstractContextManager[Any]]


def point_at(repository: Repository, version: int) -> None:
    """Set `stable` as `temperance alias` does, in one step, also where the list cannot be read."""
    new = repository.root / NAME / ".new"
    new.write_text(f"stable = {version}\n")
    new.rename(repository.root / NAME / "aliases.toml")


def described(server: Any) -> dict[str, Any]:
    # A connection of its own each time: the kernel deals connections out to the workers.
    answer = httpx.get(f"{server.client.base_url}/v1/models/{NAME}", timeout=30)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def deep_aliases(repository: Repository, version: int) -> None:
    del version
    (repository.root / NAME / "aliases.toml").write_text(f"stable = {'[' * 100_000}")


def damaged(damage: Callable[[Path], None]) -> Callable[[Repository, int], None]:
    def deploy(repository: Repository, version: int) -> None:
        damage(repository.root / NAME / str(version))
        reseal(repository.root / NAME / str(version))
        point_at(repository, version)

    return deploy


def without_sums(repository: Repository, version: int) -> None:
    (repository.root / NAME / str(version) / "SHA256SUMS").unlink()
    point_at(repository, version)


TRIGGERS: Final = {
    **{name: damaged(damage) for name, damage in DAMAGES.items()},
    "100,000 brackets in the aliases": deep_aliases,
    "no sums": without_sums,
}


def test_each_bad_deployment_is_refused_in_one_line_and_the_next_good_one_is_followed(
    serving: Serving, repository: Repository
) -> None:
    with serving(repository.root) as server:
        for trigger, deploy in TRIGGERS.items():
            before = described(server)["version"]
            bad, good = (publish_another_price(repository, price) for price in (60, 70))
            deploy(repository, bad)
            wait_for(lambda: described(server)["refusal"] is not None)
            found = described(server)
            assert (found["version"], len(found["refusal"].splitlines())) == (before, 1), trigger
            assert f"models/{NAME}" in found["refusal"], trigger
            assert server.client.get("/readyz").status_code == 200
            point_at(repository, good)
            wait_for(lambda good=good: described(server)["version"] == str(good))  # type: ignore[misc]
            assert described(server)["refusal"] is None, trigger
        log, metrics = server.log.read_text(), server.client.get("/metrics").text
    assert "Traceback" not in log
    assert log.count("still serving the versions of breast-cancer that were loaded before") == len(TRIGGERS)
    assert f'temperance_reloads_total{{model="{NAME}",result="ok"}} {len(TRIGGERS)}.0' in metrics


def test_a_repository_that_is_away_is_logged_and_followed_again(
    serving: Serving, repository: Repository, tmp_path: Path
) -> None:
    with serving(repository.root, TEMPERANCE_RELOAD_SECONDS="0.05") as server:
        version = publish_another_price(repository, 60)
        repository.root.rename(tmp_path / "away")
        wait_for(lambda: described(server)["refusal"] is not None)
        assert described(server)["version"] == "1"
        (tmp_path / "away").rename(repository.root)
        point_at(repository, version)
        wait_for(lambda: (described(server)["version"], described(server)["refusal"]) == (str(version), None))


def test_a_version_that_arrives_file_by_file_after_its_alias_is_served_when_it_is_complete(
    serving: Serving, repository: Repository, tmp_path: Path
) -> None:
    with serving(repository.root, TEMPERANCE_RELOAD_SECONDS="0.05") as server:
        version = publish_another_price(repository, 60)
        folder = (repository.root / NAME / str(version)).rename(tmp_path / "arriving")
        arrived = repository.root / NAME / str(version)
        point_at(repository, version)
        wait_for(lambda: f"waiting for version {version}: " in str(described(server)["refusal"]))
        arrived.mkdir()
        for file in sorted(folder.iterdir(), reverse=True):
            wait_for(lambda: f"waiting for version {version}: " in str(described(server)["refusal"]))
            assert described(server)["version"] == "1"
            shutil.copyfile(file, arrived / file.name)
        wait_for(lambda: (described(server)["version"], described(server)["refusal"]) == (str(version), None))


@pytest.mark.parametrize("broken", ["stable = [", pytest.param("version", marks=pytest.mark.long)])
def test_a_worker_that_is_killed_while_a_deployment_is_broken_is_replaced_and_serves_what_the_others_serve(
    broken: str, serving: Serving, repository: Repository, test_rows: list[list[float]]
) -> None:
    with serving(repository.root, "--workers", "2", TEMPERANCE_RELOAD_SECONDS="0.05") as server:

        def answered_by() -> set[tuple[int, str]]:
            url, body = f"{server.client.base_url}/v1/models/{NAME}:decide", {"instances": test_rows[:1]}
            answers = [httpx.post(url, json=body, timeout=30) for _ in range(10)]
            return {(answer.status_code, answer.json().get("version")) for answer in answers}

        good, later = (publish_another_price(repository, price) for price in (60, 80))
        point_at(repository, good)
        wait_for(lambda: answered_by() == {(200, str(good))})
        if broken == "version":
            without_sums(repository, publish_another_price(repository, 70))
        else:
            (repository.root / NAME / "aliases.toml").write_text(broken)
        wait_for(lambda: all(described(server)["refusal"] is not None for _ in range(10)))
        first = serving_workers(server)
        for worker in sorted(first):  # both: the last one serves what the first new one serves
            os.kill(worker, signal.SIGKILL)
            wait_for(lambda worker=worker: worker not in (now := serving_workers(server)) and len(now) == 2)  # type: ignore[misc]
            wait_for(lambda: answered_by() == {(200, str(good))})
        assert not serving_workers(server) & first
        assert all(described(server)["refusal"] is not None for _ in range(10))
        point_at(repository, later)
        wait_for(lambda: all(described(server)["refusal"] is None for _ in range(10)))
        wait_for(lambda: answered_by() == {(200, str(later))})

"""The process in which versions that are new to this machine are loaded and pass their self-test, before any other.

Tested in tests/runtime/test_proofs.py.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from service.bundle.repository import Bundle, Repository
from service.runtime.limited_process import Message, answer_requests
from service.runtime.model import load_model
from service.runtime.provider_parity import load_on

NICENESS: Final = 2
"""So much lower is its priority: what is served goes first."""


def main() -> None:
    """Load one version after another."""
    os.nice(NICENESS)
    answer_requests(_answer)


def _answer(request: Message) -> Message:
    repository = Repository(Path(request["root"]), is_named=request["is_named"])
    bundle = _on_one_thread(_bundle(repository, request["name"], request["version"]))
    if request["provider"] == "cpu":  # where every version is fitted; whether it is served there, its server checks
        load_model(bundle)
    else:
        load_on(bundle, provider=request["provider"])
    return {}


def _bundle(repository: Repository, name: str, version: int | None) -> Bundle:
    if version is not None:
        return repository.bundle(name, version)
    return replace(repository.draft(name), record=None, state={})  # its calibration may be of an earlier graph


def _on_one_thread(bundle: Bundle) -> Bundle:
    runtime = bundle.manifest.runtime.model_copy(update={"threads": 1})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"runtime": runtime}))


if __name__ == "__main__":
    main()

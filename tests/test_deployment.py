from pathlib import Path

import pytest

from service.bundle.repository import Repository
from service.deployment import check_names, providers_of, read_deployment
from service.errors import LoadFailed, SettingsInvalid
from service.main import load
from service.runtime.proofs import Proofs
from service.settings import Settings
from tests.damaged_versions import reseal
from tests.shipped_model import NAME, SHIPPED


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.toml"
    path.write_text('[models.fashion-mnist.runtime]\nprovider = "openvino"\n\n[models.thyroid.runtime]\n')
    return path


def test_without_a_file_every_model_runs_on_the_provider_of_the_settings() -> None:
    assert read_deployment(None).models == {}
    assert providers_of(Settings(provider="cuda")).of("any") == "cuda"


def test_a_model_may_have_a_provider_of_its_own(deployment: Path) -> None:
    providers = providers_of(Settings(deployment=deployment))
    assert (providers.of("fashion-mnist"), providers.of("thyroid"), providers.of("other")) == ("openvino", "cpu", "cpu")
    assert providers.named == ("cpu", "openvino")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[model.a.runtime]", "model"),
        ("[models.a.run]", "models.a.run"),
        ('[models.a.runtime]\nproviders = "cpu"', "models.a.runtime.providers"),
        ('[models.a.runtime]\nprovider = "gpu"', "models.a.runtime.provider"),
        ("[models.a.runtime]\nprovider = 1", "models.a.runtime.provider"),
        ("models = [", "deployment.toml"),
    ],
)
def test_a_file_that_breaks_its_schema_names_the_key(text: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "deployment.toml"
    path.write_text(text)
    with pytest.raises(SettingsInvalid) as error:
        read_deployment(path)
    assert f"{path}" in str(error.value)
    assert place in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_refused_by_its_path(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "deployment.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsInvalid, match=str(path)):
        read_deployment(path)


def test_a_model_that_is_not_served_is_refused_with_those_that_are(deployment: Path) -> None:
    settings = Settings(deployment=deployment)
    check_names(settings, ["fashion-mnist", "thyroid"])
    with pytest.raises(SettingsInvalid, match=r"models\.thyroid: no model of that name is served; served are fash"):
        check_names(settings, ["fashion-mnist"])


def test_a_provider_that_is_not_installed_refuses_the_version_that_is_to_run_on_it(tmp_path: Path) -> None:
    path = tmp_path / "deployment.toml"
    path.write_text(f'[models.{NAME}.runtime]\nprovider = "tensorrt"\n')
    with pytest.raises(Exception, match="provider 'tensorrt' cannot be loaded: this ONNX Runtime is built without it"):
        load(Settings(models=SHIPPED, data=tmp_path, deployment=path))


def test_a_version_that_does_not_accept_the_cpu_loads_there_and_is_not_served_there(
    repository: Repository, tmp_path: Path
) -> None:
    """`fit`, `publish` and `pull --verify` load it on the CPU, where every version is fitted."""
    version = repository.root / NAME / "1"
    for file in ("calibration.json", "state.npz"):
        (version / file).unlink()
    manifest = version / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("[graph]\n", "[graph]\nproviders = { cuda = {} }\n", 1))
    reseal(version)
    assert Proofs().refusals(repository, [(NAME, 1)]) == {}
    with pytest.raises(LoadFailed, match="its calibration accepts cuda, and this machine is to run it on cpu"):
        load(Settings(models=repository.root, data=tmp_path, strict_start=True))

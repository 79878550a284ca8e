import pytest

from service.bundle.accepted_providers import PROVIDERS
from service.runtime.provider_packages import PACKAGES, Providers, installed, releases_of, runtime_release


def test_every_provider_has_its_packages() -> None:
    assert tuple(PACKAGES) == PROVIDERS


def test_packages_that_are_not_installed_are_left_out() -> None:
    assert [line.partition(" ")[0] for line in installed(("numpy", "no-such-package", "onnxruntime"))] == [
        "numpy",
        "onnxruntime",
    ]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_releases_of_a_provider_begin_with_onnx_runtime(provider) -> None:
    assert releases_of(provider)[0] == f"onnxruntime {runtime_release()}"


def test_a_model_without_a_provider_of_its_own_has_the_default() -> None:
    providers = Providers("openvino", {"a": "cpu", "b": "openvino"})
    assert [providers.of(name) for name in "abc"] == ["cpu", "openvino", "openvino"]
    assert providers.named == ("openvino", "cpu")

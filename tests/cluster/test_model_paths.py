"""Which model a path names."""

import pytest

from service.cluster.model_paths import model_in, within


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models/a:predict", "a"),
        ("/v1/models/a", "a"),
        ("/v1/models/a.b-c_d/versions/2:decide", "a.b-c_d"),
        ("/v1/models/a/labels/stable", "a"),
        ("/v1/models/a/performance", "a"),
        ("/v2/models/a/infer", "a"),
        ("/v2/models/a/versions/1/infer", "a"),
        ("/v2/models/stats", None),
        ("/v2/models/stats/ready", "stats"),
        ("/v1/models/stats", "stats"),
        ("/v1/models", None),
        ("/v1/models/", None),
        ("/v1/models/a b:predict", None),
        ("/v1/models/../x", None),
        ("/v3/models/a", None),
        ("/v1/outcomes", None),
    ],
)
def test_the_model_of_a_path(path, name):
    assert model_in(path) == name


def test_a_path_that_only_begins_like_the_root_path_is_not_within_it():
    assert within("/temperance-2/readyz", "/temperance") == "/temperance-2/readyz"

"""Answers made one."""

from typing import Any

import orjson

from service.cluster.forwarded import Reply
from service.cluster.merged import one_document, one_exposition

COUNTER = """# HELP temperance_requests_total Requests
# TYPE temperance_requests_total counter
temperance_requests_total{{method="GET"}} {count}
# HELP temperance_seconds Seconds
# TYPE temperance_seconds histogram
temperance_seconds_bucket{{le="1.0"}} {count}
temperance_seconds_bucket{{le="+Inf"}} {count}
temperance_seconds_count {count}
temperance_seconds_sum 0.5
"""


def reply(body: object, status: int = 200) -> Reply:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Reply(status, ((b"content-length", str(len(content)).encode()),), content, replica=f"r{len(content)}")


def merged(*documents: object) -> Any:
    return orjson.loads(one_document([reply(document) for document in documents]).body)


def test_lists_of_models_are_one_list_by_name():
    assert merged({"models": ["c", "d"]}, {"models": ["a", "c"]}) == {"models": ["a", "c", "d"]}
    stats = merged({"model_stats": [{"name": "b"}]}, {"model_stats": [{"name": "a"}]})
    assert stats == {"model_stats": [{"name": "a"}, {"name": "b"}]}


def test_what_later_documents_share_is_listed_once():
    assert merged({"tags": [1]}, {"tags": [2]}, {"tags": [2, 3]}) == {"tags": [1, 2, 3]}


def test_objects_are_merged_member_by_member_and_equal_documents_keep_their_bytes():
    assert merged({"paths": {"/a": {"get": 1}}, "v": 1}, {"paths": {"/b": {}}, "v": 1}) == {
        "paths": {"/a": {"get": 1}, "/b": {}},
        "v": 1,
    }
    same = reply(b'{ "status": "ready" }')
    assert one_document([same, same]) is same


def test_the_first_error_is_the_answer():
    error = reply({"status": 503}, status=503)
    assert one_document([reply({}), error]) is error
    assert one_exposition([reply(b""), error]) is error


def test_every_sample_says_which_replica_counted_it_and_each_family_is_described_once():
    shown = one_exposition([reply(COUNTER.format(count=count).encode()) for count in (3.0, 10.0)]).body.decode()
    assert shown.count("# TYPE temperance_requests_total counter") == 1
    assert shown.count("# TYPE temperance_seconds histogram") == 1
    lines = [line for line in shown.splitlines() if line.startswith("temperance_requests_total")]
    assert sorted(line.rpartition(" ")[2] for line in lines) == ["10.0", "3.0"]
    assert all('replica="r' in line for line in shown.splitlines() if not line.startswith("#"))

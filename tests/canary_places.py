"""Requests with a canary in every place that a caller fills, as bytes; `tests/test_privacy.py` looks for it afterwards.

A canary is a word, or a number where a number is due. A request that is right but for its canary is answered; the
others are refused, each for a reason of its own.
"""

import gzip
import json
from collections.abc import Iterator
from typing import Any, Final

WORD: Final = "zq7canary"
NUMBER: Final = 7654321.125
DIGITS: Final = "7654321"
LARGE: Final = "76543219e307"
CANARIES: Final = (WORD, DIGITS, WORD.upper(), WORD[::-1])

HOST: Final = ("Host", "service.example")
JSON_TYPE: Final = ("Content-Type", "application/json")
MODEL: Final = "/v1/models/breast-cancer"
INFER: Final = "/v2/models/breast-cancer/infer"

Header = tuple[str, str]


def request(
    method: str, target: str, *headers: Header, body: bytes = b"", host: Header | None = HOST, key: str = ""
) -> bytes:
    """A request, the last of its connection; ``key`` is a credential that is right."""
    credential = [] if any(name.lower() == "authorization" for name, _ in headers) or not key else [bearer(key)]
    length = [("Content-Length", str(len(body)))] if body else []
    fields = [*([] if host is None else [host]), *credential, *headers, *length, ("Connection", "close")]
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def bearer(key: str) -> Header:
    return "Authorization", f"Bearer {key}"


def posted(target: str, document: object, *headers: Header, key: str) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return request("POST", target, *(headers or [JSON_TYPE]), body=body, key=key)


def places(row: list[float], key: str) -> Iterator[tuple[str, bytes]]:
    """Every place by its name, with the request whose canary is there.

    Parameters
    ----------
    row : list of float
        That the shipped model takes.
    key : str
        A key that may do everything; empty where the server needs none.
    """
    for target, method in ((MODEL + ":decide", "POST"), ("/metrics", "GET"), (INFER, "POST"), ("/nowhere", "GET")):
        yield from _in_headers(method, target, row, key)
    yield from _in_targets(row, key)
    yield from _in_handshakes(key)
    yield from _in_documents(row, key)
    yield from _in_tensors(row, key)
    yield from _in_other_bodies(key)


def _in_headers(method: str, target: str, row: list[float], key: str) -> Iterator[tuple[str, bytes]]:
    body = b"" if method == "GET" else json.dumps(_right(target, row)).encode()
    for name, value in HEADERS:
        own = [] if method == "GET" or name.lower() == "content-type" else [JSON_TYPE]
        host = None if name == "Host" else HOST
        yield (
            f"{name}: {value} on {target}",
            request(method, target, *own, (name, value), body=body, host=host, key=key),
        )


def _right(target: str, row: list[float]) -> dict[str, Any]:
    if target != INFER:
        return {"instances": [row]}
    return {"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, len(row)], "data": row}]}


def _in_targets(row: list[float], key: str) -> Iterator[tuple[str, bytes]]:
    for target in TARGETS:
        yield f"GET {target}", request("GET", target, key=key)
        yield f"POST {target}", posted(target, {"instances": [row]}, key=key)
    for method in (WORD.upper(), WORD, "TRACE", "CONNECT"):
        yield f"method {method}", request(method, f"/livez?{WORD}", key=key)
    for line in (
        f"GET /{WORD}",
        f"GET /{WORD} HTTP/9.9",
        f"{WORD}",
        f"GET  /{WORD}  HTTP/1.1",
        f"GET /\x00{WORD} HTTP/1.1",
    ):
        yield f"request line {line!r}", f"{line}\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    for field in FIELDS:
        yield f"field {field!r}", f"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n\r\n".encode()


def _in_handshakes(key: str) -> Iterator[tuple[str, bytes]]:
    fields = {
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "chat",
        "Origin": "https://service.example",
    }
    for target in (f"/{WORD}", f"/livez?{WORD}={WORD}", f"/v1/models/{WORD}:decide"):
        yield f"handshake at {target}", _handshake(target, fields, key)
    for name in fields:
        yield f"handshake with {name}", _handshake("/livez", {**fields, name: WORD}, key)


def _handshake(target: str, fields: dict[str, str], key: str) -> bytes:
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: a",
        "Connection: Upgrade, close",
        *(f"{k}: {v}" for k, v in fields.items()),
    ]
    return "\r\n".join([*lines, *([f"Authorization: Bearer {key}"] if key else []), "", ""]).encode()


def _in_documents(row: list[float], key: str) -> Iterator[tuple[str, bytes]]:
    for verb in ("predict", "detect", "decide"):
        yield f"a number for {verb}", posted(f"{MODEL}:{verb}", {"instances": [[NUMBER, *row[1:]]]}, key=key)
        yield f"ids for {verb}", posted(f"{MODEL}:{verb}", {"instances": [row], "parameters": {"ids": [WORD]}}, key=key)
        yield (
            f"subjects for {verb}",
            posted(
                f"{MODEL}:{verb}", {"instances": [row], "parameters": {"subjects": [WORD], "groups": [WORD]}}, key=key
            ),
        )
    for change in ROWS:
        yield f"row {change!r}", posted(MODEL + ":decide", {"instances": [[change, *row[1:]]]}, key=key)
    for instance in INSTANCES:
        yield f"instance {instance!r}", posted(MODEL + ":decide", {"instances": [instance]}, key=key)
    for parameters in PARAMETERS:
        document = {"instances": [row], "parameters": parameters}
        for verb in ("decide", "detect"):
            yield f"{verb} with {parameters!r}", posted(f"{MODEL}:{verb}", document, key=key)
    for document in DOCUMENTS:
        yield f"document {document!r}", posted(MODEL + ":decide", document, key=key)
    for labels in ([WORD], WORD, {WORD: 1}, [NUMBER], [None]):
        yield f"labels {labels!r}", posted(MODEL + ":evaluate", {"instances": [row], "labels": labels}, key=key)


def _in_tensors(row: list[float], key: str) -> Iterator[tuple[str, bytes]]:
    right = {"name": "X", "datatype": "FP64", "shape": [1, len(row)], "data": row}
    for change in TENSORS:
        yield f"tensor with {change!r}", posted(INFER, {"inputs": [right | change]}, key=key)
    for change in INFERENCES:
        yield f"inference with {change!r}", posted(INFER, {"inputs": [right]} | change, key=key)
    for extra in (b"", WORD.encode(), b"\xff\xfe" + WORD.encode(), 8 * len(row) * b"7"):
        header = {"inputs": [{k: right[k] for k in ("name", "datatype", "shape")} | {"parameters": BINARY}]}
        head = json.dumps(header).encode()
        length = ("Inference-Header-Content-Length", str(len(head)))
        yield f"binary data {extra[:12]!r}", posted(INFER, head + extra, ("Content-Type", OCTETS), length, key=key)
    for verb in ("load", "unload"):
        target = f"/v2/repository/models/breast-cancer/{verb}"
        yield f"parameters of {verb}", posted(target, {"parameters": {WORD: WORD, "config": WORD}}, key=key)
    yield "parameters of an index", posted("/v2/repository/index", {"ready": WORD, WORD: 1}, key=key)


def _in_other_bodies(key: str) -> Iterator[tuple[str, bytes]]:
    for target in (MODEL + ":decide", INFER):
        for kind, body in BODIES.items():
            yield f"{kind} on {target}", posted(target, body, ("Content-Type", kind), key=key)
        squeezed = gzip.compress(json.dumps({"instances": WORD, "inputs": WORD}).encode())
        yield f"gzip on {target}", posted(target, squeezed, JSON_TYPE, ("Content-Encoding", "gzip"), key=key)
        broken = squeezed[:-8] + WORD.encode()
        yield f"broken gzip on {target}", posted(target, broken, JSON_TYPE, ("Content-Encoding", "gzip"), key=key)
    chunk = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield "the size of a chunk", f"{chunk}{WORD}\r\n".encode()
    yield "the extension of a chunk", f"{chunk}1;{WORD}={WORD}\r\n{{\r\n0\r\n\r\n".encode()
    yield "a trailer", f"{chunk}1\r\n{{\r\n0\r\n{WORD}: {WORD}\r\n\r\n".encode()


OCTETS: Final = "application/octet-stream"
BINARY: Final = {"binary_data_size": 240}
HEADERS: Final = (
    ("Accept", f"text/{WORD}"),
    ("Accept-Encoding", WORD),
    ("Accept-Language", WORD),
    ("Authorization", f"Bearer {WORD}"),
    ("Authorization", f"Bearer tmp_{WORD}_{WORD}"),
    ("Authorization", f"Bearer {WORD}.{WORD}.{WORD}"),
    ("Authorization", f"Basic {WORD}"),
    ("Authorization", WORD),
    ("Content-Encoding", WORD),
    ("Content-Language", WORD),
    ("Content-Type", f"application/json; charset={WORD}"),
    ("Content-Type", f"multipart/form-data; boundary={WORD}"),
    ("Cookie", f"{WORD}={WORD}"),
    ("Expect", WORD),
    ("Forwarded", f"for={WORD}"),
    ("Host", WORD),
    ("Host", f"{WORD}@service.example"),
    ("Idempotency-Key", WORD),
    ("If-None-Match", f'"{WORD}"'),
    ("Inference-Header-Content-Length", WORD),
    ("Origin", f"https://{WORD}.example"),
    ("Proxy-Authorization", WORD),
    ("Range", f"bytes={WORD}"),
    ("Referer", f"https://{WORD}.example/"),
    ("TE", WORD),
    ("Transfer-Encoding", WORD),
    ("traceparent", f"00-{WORD}-{WORD}-01"),
    ("tracestate", f"{WORD}={WORD}"),
    ("Upgrade", WORD),
    ("User-Agent", WORD),
    ("Via", WORD),
    ("X-Api-Key", WORD),
    ("X-Client-Subject", f"CN={WORD}"),
    ("X-Forwarded-For", WORD),
    ("X-Forwarded-Host", WORD),
    ("X-Forwarded-Prefix", f"/{WORD}"),
    ("X-Forwarded-Proto", WORD),
    ("X-Http-Method-Override", WORD),
    ("X-Request-Id", f"{WORD} with spaces"),
    ("X-Request-Id", f"{WORD}\udcff"),
    (f"X-{WORD}", "a"),
)
LINES: Final = (f"GET /{WORD}", f"GET /{WORD} HTTP/9.9", WORD, f"GET  /{WORD}  HTTP/1.1", f"GET /\x00{WORD} HTTP/1.1")
FIELDS: Final = (WORD, f"{WORD}: a\x00b", f" {WORD}: a", f"{WORD} : a", f"a: {WORD}\r\n folded", f"Host: {WORD}")
TARGETS: Final = (
    f"/{WORD}",
    f"/{WORD}?{WORD}={WORD}#{WORD}",
    f"/livez?{WORD}",
    f"/metrics?name={WORD}",
    f"/docs/{WORD}",
    f"/openapi.json?{WORD}",
    f"/v1/{WORD}",
    f"/v1/models/{WORD}",
    f"/v1/models/{WORD}:decide",
    f"{MODEL}:{WORD}",
    f"{MODEL}:decide?{WORD}={WORD}",
    f"{MODEL}/versions/{WORD}",
    f"{MODEL}/versions/{DIGITS}:decide",
    f"{MODEL}/labels/{WORD}:decide",
    f"{MODEL}/{WORD}",
    f"/v2/{WORD}",
    f"/v2/models/{WORD}",
    f"/v2/models/{WORD}/infer",
    f"/v2/models/{WORD}/versions/1/infer",
    f"/v2/models/breast-cancer/versions/{DIGITS}/infer",
    f"/v2/models/breast-cancer/{WORD}",
    f"/v2/repository/models/{WORD}/load",
    f"/%7a{WORD}%0d%0a{WORD}",
    f"/..%2f{WORD}",
    f"//{WORD}//",
    f"http://{WORD}.example/livez",
    f"/livez;{WORD}",
    "/" + WORD * 900,
)
ROWS: Final[tuple[Any, ...]] = (WORD, f"{NUMBER}", {WORD: 1}, [WORD], True, None, 1e39, NUMBER * 1e300, {"value": WORD})
INSTANCES: Final[tuple[Any, ...]] = (WORD, NUMBER, {WORD: 1.0}, [WORD], {"mean radius": WORD}, [NUMBER], [], [[NUMBER]])
PARAMETERS: Final[tuple[Any, ...]] = (
    WORD,
    {WORD: WORD},
    {"policy": WORD},
    {"policy": {WORD: 1}},
    {"site": WORD},
    {"prevalence": {WORD: 0.5, "benign": 0.5}},
    {"prevalence": {"malignant": NUMBER, "benign": 0.5}},
    {"prevalence": {"malignant": WORD, "benign": 0.5}},
    {"costs": {WORD: {WORD: NUMBER}}},
    {"costs": {WORD: {"malignant": NUMBER, "benign": 0.0}}},
    {"costs": {"a": {"malignant": WORD, "benign": 0.0}}},
    {"costs": {"a": WORD}},
    {"on_ood": WORD},
    {"ids": [WORD * 50]},
    {"subjects": [WORD * 50]},
    {"subjects": [WORD, WORD]},
    {"groups": [{WORD: 1}]},
    {"groups": WORD},
    {"ids": [{WORD: 1}]},
    {"ids": WORD},
    {"ids": [WORD, WORD]},
    {"subjects": [WORD]},
    {"groups": [WORD]},
    {"coverage": WORD},
    {"coverage": NUMBER},
    {"fdr": WORD},
    {"top_k": WORD},
    {"top_k": int(DIGITS)},
    {"layout": WORD},
    {"smoother": WORD},
    {"switch": NUMBER},
    {"session": WORD},
    {"session": {WORD: WORD}},
    {"session": {"step": int(DIGITS), "state": WORD}},
    {"losses": [WORD]},
)
DOCUMENTS: Final[tuple[Any, ...]] = (
    {WORD: WORD, "instances": []},
    {"instances": WORD},
    {"instances": {WORD: 1}},
    [WORD],
    WORD,
    int(DIGITS),
    f'{{"{WORD}": 1, "{WORD}": 2}}'.encode(),
    f'{{"instances": [[{WORD}]]}}'.encode(),
    f'{{"instances": [["{WORD}'.encode(),
    f'{{"instances": [[{LARGE}]]}}'.encode(),
    f'{{"instances": [[{DIGITS}.{DIGITS}.1]]}}'.encode(),
    f'{{"instances": [["{WORD}\\ud800"]]}}'.encode(),
    f'{{"instances": [["{WORD}\xff"]]}}'.encode("latin-1"),
    b"\xef\xbb\xbf" + f'{{"{WORD}": 1}}'.encode(),
    f'{{"{WORD}": 1}} {WORD}'.encode(),
    b"[" * 200 + f'"{WORD}"'.encode() + b"]" * 200,
    WORD.encode("utf-16"),
    f"'{WORD}'".encode(),
    b"",
)
TENSORS: Final[tuple[dict[str, Any], ...]] = (
    {"name": WORD},
    {"name": int(DIGITS)},
    {"datatype": WORD},
    {"datatype": "BYTES", "data": [WORD]},
    {"shape": [1, int(DIGITS)]},
    {"shape": [int(DIGITS), 30]},
    {"shape": [-int(DIGITS), 30]},
    {"shape": [1, WORD]},
    {"shape": WORD},
    {"data": [WORD]},
    {"data": WORD},
    {"data": [NUMBER]},
    {"data": [[NUMBER]]},
    {"parameters": WORD},
    {"parameters": {WORD: WORD}},
    {"parameters": {"content_type": WORD}},
    {"parameters": {"binary_data_size": int(DIGITS)}},
    {"parameters": {"binary_data_size": WORD}},
    {WORD: WORD},
)
INFERENCES: Final[tuple[dict[str, Any], ...]] = (
    {"id": {WORD: 1}},
    {"id": WORD * 50},
    {"id": int(DIGITS)},
    {WORD: WORD},
    {"parameters": WORD},
    {"parameters": {WORD: WORD}},
    {"parameters": {"policy": WORD}},
    {"parameters": {"site": WORD}},
    {"parameters": {"prevalence": {WORD: 1.0}}},
    {"parameters": {"costs": {WORD: {WORD: NUMBER}}}},
    {"parameters": {"timeout": WORD}},
    {"parameters": {"timeout": -int(DIGITS)}},
    {"parameters": {"priority": WORD}},
    {"parameters": {"sequence_id": WORD}},
    {"outputs": WORD},
    {"outputs": [{"name": WORD}]},
    {"outputs": [{"name": "probabilities", WORD: 1}]},
    {"outputs": [{"name": "probabilities", "parameters": {WORD: WORD}}]},
    {"outputs": [{"name": "probabilities", "parameters": {"classification": int(DIGITS)}}]},
    {"inputs": WORD},
    {"inputs": [WORD]},
    {"inputs": {WORD: 1}},
)
BODIES: Final = {
    "multipart/form-data; boundary=b": (
        f'--b\r\nContent-Disposition: form-data; name="{WORD}"; filename="{WORD}"\r\n\r\n{WORD}\r\n--b--\r\n'.encode()
    ),
    "application/x-www-form-urlencoded": f"{WORD}={WORD}".encode(),
    "application/xml": f"<!DOCTYPE a [<!ENTITY {WORD} '{WORD}'>]><a>&{WORD};</a>".encode(),
    "application/yaml": f"{WORD}: !!python/object:{WORD} {{}}".encode(),
    "application/x-pickle": b"\x80\x04" + WORD.encode() + b".",
    "text/plain": WORD.encode(),
    OCTETS: WORD.encode(),
}

"""An issuer of tokens: a real HTTP server with its public keys, and the private keys."""

import json
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.warnings import InsecureKeyLengthWarning

from service.access.tokens import TokenIssuer

AUDIENCE = "temperance"
PRIVATE: dict[str, Any] = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "other": rsa.generate_private_key(65537, 2048),
    "weak": rsa.generate_private_key(65537, 1024),  # noqa: S505  # to be refused
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def public_jwk(name: str, **more: Any) -> dict[str, Any]:
    """The public key of that name as a JWK with the name as its id."""
    public = PRIVATE[name].public_key()
    if isinstance(public, rsa.RSAPublicKey):
        made = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        made = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(public, as_dict=True)
    made.pop("key_ops", None)
    return {**made, "kid": name, **more}


@dataclass
class Issuer:
    """What the server answers, and how often it was read."""

    address: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    body: bytes | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    was_reached: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def entry(self, *algorithms: str, **more: Any) -> TokenIssuer:
        """As it is configured."""
        known = algorithms or ("RS256", "ES256")
        values = {"issuer": self.address, "audience": AUDIENCE, "jwks_url": f"{self.address}/jwks"}
        return TokenIssuer(**{**values, "algorithms": known, "scopes_claim": "scope", **more})

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of a token that is valid for five minutes; None leaves one out."""
        usual = {"iss": self.address, "aud": AUDIENCE, "sub": "ward-7", "scope": "predict", "exp": time.time() + 300}
        return {name: value for name, value in {**usual, **changes}.items() if value is not None}

    def token(self, key: str = "rsa", algorithm: str = "RS256", header: Any = None, **changes: Any) -> bytes:
        """A signed token."""
        named = {"kid": key, **(header or {})}
        kept = {name: value for name, value in named.items() if value is not None}
        with warnings.catch_warnings(action="ignore", category=InsecureKeyLengthWarning):
            return jwt.encode(self.claims(**changes), PRIVATE[key], algorithm, headers=kept).encode()


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """A running issuer."""
    state = Issuer(keys=[public_jwk(name) for name in ("rsa", "p256", "p384", "ed25519", "weak")])
    state.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.paths.append(self.path)
            state.was_reached.set()
            state.may_answer.wait(timeout=30)
            body = json.dumps({"keys": state.keys}).encode() if state.body is None else state.body
            self.send_response(state.status)
            for name, value in {"Content-Length": str(len(body)), **state.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            del arguments

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        state.may_answer.set()
        server.shutdown()
        thread.join()

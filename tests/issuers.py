"""Issuers for the tests: keys to sign with, and a server that hands out their public halves."""

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from hmac import digest
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from tests.unit.core.security.forge import FromNow, segment

ALGORITHMS = get_default_algorithms()
CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


@cache
def _rsa_key(_: str, bits: int) -> rsa.RSAPrivateKey:
    # Slow to make: one of a name is enough for a run.
    return rsa.generate_private_key(65_537, bits)


@dataclass
class SigningKey:
    kid: str = "key-1"
    algorithm: str = "RS256"
    rsa_bits: int = 2048

    @cached_property
    def private(self) -> Any:
        if self.algorithm == "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        if curve := CURVES.get(self.algorithm):
            return ec.generate_private_key(curve())
        return _rsa_key(self.kid, self.rsa_bits)

    @property
    def jwk(self) -> dict[str, Any]:
        public = ALGORITHMS[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "alg": self.algorithm}

    def sign(self, covered: bytes) -> bytes:
        return ALGORITHMS[self.algorithm].sign(covered, self.private)


@dataclass
class Issuer:
    """`header` and `claims` are those of a good token."""

    issuer: str
    audience: str
    key: SigningKey
    header: dict[str, Any] = field(default_factory=dict)
    subject: str = "ann"

    @property
    def claims(self) -> dict[str, Any]:
        return {
            "sub": self.subject,
            "iss": self.issuer,
            "aud": self.audience,
            "iat": FromNow(0),
            "exp": FromNow(300),
        }

    def token(
        self,
        header: dict[str, Any] | None = None,
        *,
        key: SigningKey | None = None,
        leave_out: str | None = None,
        without: str | None = None,
        **claims: Any,
    ) -> str:
        """A good one but for these; `without` is a header's name."""
        now = int(time.time())
        made = {
            name: now + value if isinstance(value, FromNow) else value
            for name, value in (self.claims | claims).items()
            if name != leave_out
        }
        return self.signed(json.dumps(made).encode(), header, key=key, without=without)

    def signed(
        self,
        body: bytes,
        header: dict[str, Any] | None = None,
        *,
        key: SigningKey | None = None,
        without: str | None = None,
    ) -> str:
        key = key or self.key
        head = {"alg": self.key.algorithm, "kid": self.key.kid, **self.header, **(header or {})}
        head = {name: value for name, value in head.items() if name != without}
        covered = f"{segment(json.dumps(head).encode())}.{segment(body)}"
        return f"{covered}.{segment(key.sign(covered.encode()))}"


def oidc_issuer() -> Issuer:
    """As Auth0 has it."""
    return Issuer(
        "https://tenant.auth.test/",
        "https://api.chat.test",
        SigningKey(),
        header={"typ": "JWT"},
        subject="auth0|0123456789abcdef",
    )


def better_auth_issuer(origin: str = "http://auth.chat.test:3000") -> Issuer:
    """Its header has `alg` and `kid` alone, its keys no `use`."""
    return Issuer(
        origin,
        origin,
        SigningKey("b7Kq0oO5TzYgQhJb", "EdDSA"),
        subject="aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeF",
    )


def signed_session(token: str, secret: str, *, encoded: bool = False) -> str:
    """As Better Auth signs one for a bearer or, percent-encoded, for its cookie."""
    signature = b64encode(digest(secret.encode(), token.encode(), "sha256")).decode()
    signed = f"{token}.{signature}"
    return quote(signed, safe="") if encoded else signed


def subject_id(issuer: str, subject: str) -> str:
    return f"j_{segment(sha256(issuer.encode() + bytes([0]) + subject.encode()).digest())}"


class KeyServer:
    """Answers every request with what it was told to, and counts them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.body = b""
        self.status = "200 OK"
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.gate = asyncio.Event()
        self.gate.set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def has(self, *keys: SigningKey | dict[str, Any]) -> None:
        jwks = [key.jwk if isinstance(key, SigningKey) else key for key in keys]
        self.body = json.dumps({"keys": jwks}).encode()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse what comes, as a server that is down."""
        if self._server is not None:
            self._server.close()
        if self._answering:
            await asyncio.wait(self._answering)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        request = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(request.decode())
        await self.gate.wait()
        headers = {"Content-Length": str(len(self.body)), "Connection": "close", **self.headers}
        lines = [f"HTTP/1.1 {self.status}", *(f"{n}: {v}" for n, v in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + self.body)
        # A client that has had enough hangs up in the middle.
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def key_server(*keys: SigningKey) -> AsyncGenerator[KeyServer]:
    server = KeyServer()
    server.has(*keys)
    await server.start()
    try:
        yield server
    finally:
        server.gate.set()
        await server.stop()

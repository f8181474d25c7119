"""The kinds of values that a setting may have."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from parley.core.database import engine_url
from parley.core.media_types import MEDIA_RANGE

AuthMode = Literal["local", "jwks", "better-auth"]

_OFFICE = "application/vnd.openxmlformats-officedocument."
DEFAULT_UPLOAD_TYPES = (
    "text/*",
    "application/json",
    "application/pdf",
    "application/zip",
    f"{_OFFICE}wordprocessingml.document",
    f"{_OFFICE}spreadsheetml.sheet",
    f"{_OFFICE}presentationml.presentation",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
)

_RATE = re.compile(r"[1-9][0-9]{0,5}/(second|minute|hour|day)")
_TABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}")
_HOST = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_ENDPOINT = re.compile(
    r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?(/[^?#\s]*)?", re.IGNORECASE
)
_FILES = re.compile(
    r"memory://|file:///[^?#\x00]+|file://var/files|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\s]*)?"
)
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")

# More would be the client's, and come before what Parley has it do, such as how long it waits.
_REDIS_OPTION = re.compile(
    "ssl_cert_reqs=(none|optional|required)|ssl_check_hostname=(true|false)"
    "|ssl_(ca_certs|certfile|keyfile)=/[^&]+"
)


def _database(url: SecretStr) -> SecretStr:
    engine_url(url.get_secret_value())
    return url


def _postgres(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith("postgres"):
        msg = "must start with postgresql://"
        raise ValueError(msg)
    return url


def _redis(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://")):
        msg = "must start with redis:// or rediss://"
        raise ValueError(msg)
    # A / or # of the password ends the host's part: the client would quote what it took for a port.
    if not _is_reachable(url.get_secret_value()):
        msg = "must look like redis://:password@host:6379/0, with %2F for a / of the password, %23 for a #"
        raise ValueError(msg)
    parts = urlsplit(url.get_secret_value())
    options = parts.query.split("&") if parts.query else []
    if not all(parts.scheme == "rediss" and _REDIS_OPTION.fullmatch(it) for it in options):
        msg = (
            "must have nothing behind the ? but ssl_cert_reqs, ssl_check_hostname, ssl_ca_certs=/file,"
            " ssl_certfile=/file or ssl_keyfile=/file, of rediss://"
        )
        raise ValueError(msg)
    return url


def _items(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _networks(items: object) -> object:
    if not isinstance(items, tuple):
        return items
    try:
        networks = tuple(map(ip_network, items))
    except ValueError as error:
        msg = "must be addresses or networks, such as 10.0.0.1 or 10.0.0.0/8"
        raise ValueError(msg) from error
    if not all(network.prefixlen for network in networks):
        msg = "must not be everybody: whoever asks could say any address"
        raise ValueError(msg)
    return networks


def _hosts(items: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(item.lower() for item in items)
    if not all(map(_HOST.fullmatch, names)):
        msg = "must be names without scheme and port, such as chat.example.com or *.example.com"
        raise ValueError(msg)
    return names


def _origins(items: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in items:
        msg = "must name each origin: `*` would let every page on the web in"
        raise ValueError(msg)
    if not all(map(_ORIGIN.fullmatch, items)):
        msg = "must be origins as browsers send them, such as https://chat.example.com"
        raise ValueError(msg)
    return items


def _modes(items: object) -> object:
    if isinstance(items, tuple) and (not items or not set(items) <= set(get_args(AuthMode))):
        msg = f"must be of {', '.join(get_args(AuthMode))}; one of them, or several with commas"
        raise ValueError(msg)
    if isinstance(items, tuple) and len(set(items)) < len(items):
        msg = "must name each mode once"
        raise ValueError(msg)
    return items


def _http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "must be a URL that starts with https:// or http://"
        raise ValueError(msg)
    # `parley doctor` shows it.
    if parts.username is not None:
        msg = "must be a URL without login"
        raise ValueError(msg)
    return url


def _is_reachable(url: str) -> bool:
    """Whether there is a host, and a port that may be one."""
    try:
        return urlsplit(url).port != 0 and urlsplit(url).hostname is not None
    except ValueError:
        return False


def _endpoint(url: str) -> str:
    # A login in it would be shown wherever a setting that is no secret may be.
    if not _ENDPOINT.fullmatch(url) or not _is_reachable(url):
        msg = "must be a URL without login, `?` and `#`, such as http://localhost:11434/v1"
        raise ValueError(msg)
    return url


def _visible(key: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", key.get_secret_value()):
        msg = "must be visible ASCII characters: it is sent in a header"
        raise ValueError(msg)
    return key


def _printable(name: str) -> str:
    if not name.isprintable():
        msg = "must have printable characters only"
        raise ValueError(msg)
    return name


def _files(url: str) -> str:
    if not _FILES.fullmatch(url):
        msg = "must be file:///folder, s3://bucket, s3://bucket/prefix or memory://"
        raise ValueError(msg)
    return url


def _media_types(items: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(item.lower() for item in items)
    if not all(map(MEDIA_RANGE.fullmatch, names)):
        msg = "must be media types, such as image/png or text/*"
        raise ValueError(msg)
    return names


def _rate(rate: str) -> str:
    if not _RATE.fullmatch(rate):
        msg = "must be a number in a time, such as 60/minute"
        raise ValueError(msg)
    return rate


def _table(name: str) -> str:
    if not _TABLE.fullmatch(name):
        msg = "must be a table's name, with its schema or without"
        raise ValueError(msg)
    return name


ApiKey = Annotated[SecretStr, AfterValidator(_visible)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_items)]
# The validator that is named last is asked first.
AuthModes = Annotated[
    tuple[AuthMode, ...],
    NoDecode,
    BeforeValidator(_modes),
    BeforeValidator(_items),
]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
FilesUrl = Annotated[str, AfterValidator(_files)]
Hosts = Annotated[CommaSeparated, AfterValidator(_hosts)]
HttpUrl = Annotated[str, AfterValidator(_http)]
MediaTypes = Annotated[CommaSeparated, AfterValidator(_media_types)]
ModelName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
ModelNames = Annotated[
    tuple[ModelName, ...], Field(max_length=100), NoDecode, BeforeValidator(_items)
]
Networks = Annotated[
    tuple[IPv4Network | IPv6Network, ...],
    NoDecode,
    BeforeValidator(_networks),
    BeforeValidator(_items),
]
Origins = Annotated[CommaSeparated, AfterValidator(_origins)]
PostgresUrl = Annotated[DatabaseUrl, AfterValidator(_postgres)]
Rate = Annotated[str, AfterValidator(_rate)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
TableName = Annotated[str, AfterValidator(_table)]

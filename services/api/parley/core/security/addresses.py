"""Where a request comes from, as far as it can be believed."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def client_address(
    peer: str | None, forwarded: Iterable[str], trusted: Sequence[Network]
) -> str | None:
    """
    The nearest address that is no trusted proxy's.

    Each proxy appends whom it heard from to `X-Forwarded-For`, so it is read from its end, and only
    as far as proxies that are trusted wrote it: what stands before may be anybody's invention.
    """
    address = _address(peer or "")
    if address is None:
        return peer
    steps = [step.strip() for header in forwarded for step in header.split(",")]
    while steps and _is_in(address, trusted):
        further = _address(steps.pop())
        if further is None:
            break
        address = further
    return str(address)


def bucket_of(address: str | None) -> str:
    """
    Whom to count as one: of IPv6 the whole /64, which is what a single customer is given.

    Who has no address, as on a Unix socket, shares one bucket with all that have none.
    """
    known = _address(address or "")
    if isinstance(known, IPv6Address):
        return str(IPv6Network((known.packed[:8] + bytes(8), 64)))
    return "unknown" if known is None else str(known)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)

"""Who is asking: an API key, or the address that the request came from, which only our own proxies may tell us."""

import hashlib
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SUBSCRIBER_BITS = 64  # a customer gets at least all addresses that begin alike (RFC 6177)
NOBODY = "unknown"  # a server on a Unix socket knows no address; all who come that way are one client


def parse_networks(text: str) -> list[Network]:
    """Read addresses and networks, separated by commas. Raises ValueError for anything else."""
    try:
        return [ip_network(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ValueError(f"TRUSTED_PROXIES must be addresses or networks like 10.0.0.0/8: {error}") from None


def client_key(api_key: str, peer: str, forwarded_for: str, proxies: Sequence[Network]) -> str:
    """Return a short name for the client, made for Redis: the digest of its API key, else its address.

    The two kinds begin differently, so that nobody gets at another's quota by sending an address as a key. A digest,
    since a key is a secret, may be of any length, and HTTP allows odd bytes in it.
    """
    if api_key:
        return f"key:{hashlib.sha256(api_key.encode()).hexdigest()}"
    return f"address:{client_address(peer, forwarded_for, proxies)}"


def client_address(peer: str, forwarded_for: str, proxies: Sequence[Network]) -> str:
    """Return the address that the last of our own proxies saw.

    Every proxy adds at the right whom it saw, and a client may have sent a list of its own. So read from the right,
    and only as long as the one who wrote the entry is trusted. An entry that is no address ends the reading.
    """
    address = parse_address(peer)
    hops = [hop for hop in forwarded_for.split(",") if hop.strip()]
    while hops and address and any(address in network for network in proxies):
        seen = parse_address(hops.pop())
        if seen is None:
            break
        address = seen
    return subscriber(address) if address else NOBODY


def parse_address(text: str) -> Address | None:
    """Read 192.0.2.1, 192.0.2.1:5000, 2001:db8::1 or [2001:db8::1]:5000. None for what is no address."""
    text = text.strip()
    if with_port := re.fullmatch(r"\[([^]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", text):
        text = with_port[1] or with_port[2]
    try:
        address = ip_address(text.partition("%")[0])  # fe80::1%eth0: the interface says nothing about the client
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None  # ::ffff:192.0.2.1, on IPv6 sockets
    return mapped or address


def subscriber(address: Address) -> str:
    """Return what stands for one customer: an IPv4 address, or the network in which all IPv6 addresses are theirs."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), SUBSCRIBER_BITS), strict=False))

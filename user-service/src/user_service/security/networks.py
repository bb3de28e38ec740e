"""The networks that a client's address counts for."""

import ipaddress
from collections.abc import Mapping

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
_IPV6_PREFIXES = {64: 1, 56: 4, 48: 16}
"""The networks of IPv6 that count, and how many times as much as a /64 each may do.

One client usually has a /64. A household may have a /56, with 256 of them, and an organization a /48.
"""


def networks(ip: str | None) -> Mapping[str, int]:
    """The networks that this address counts for, smallest first, and how many times as much as the first they may do.

    For IPv4, the address alone. Where a translator or tunnel has put the client's IPv4 address into an IPv6 address, it
    is the IPv4 address.
    """
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return {ip or "": 1}
    if isinstance(address, ipaddress.IPv6Address):
        ipv4 = _embedded_ipv4(address)
        if ipv4 is not None:
            return {str(ipv4): 1}
        # Where in it the IPv4 address is depends on the network, but each client has one address.
        if address not in _LOCAL_NAT64:
            return {
                str(ipaddress.ip_network((int(address), length), strict=False)): factor
                for length, factor in _IPV6_PREFIXES.items()
            }
    return {str(address): 1}


def network(ip: str | None) -> str:
    """The smallest network of this address: for IPv6 its /64, otherwise the address."""
    return next(iter(networks(ip)))


def widest_network(ip: str | None) -> str:
    """The largest network of this address: for IPv6 its /48, otherwise the address."""
    return list(networks(ip))[-1]


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)

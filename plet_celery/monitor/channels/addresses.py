"""Which addresses a web request may reach: public ones only, unless a channel says otherwise.

What is asked is the address of a socket, never a name: names resolve to whatever their owner likes, and
`127.1`, `2130706433` and `0x7f.1` are loopback, too.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_V4_CLOSED: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier NAT, and some clouds' metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's hosts; public by its looks
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_V6_OPEN: Final = ipaddress.IPv6Network("2000::/3")
"""All that is given out; what Python calls global is more, and differs from version to version."""
_V6_CLOSED: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # Teredo, which holds an IPv4 address, and other special uses
            "2001:db8::/32",
            "2002::/16",  # 6to4: the same
            "3fff::/20",
        ),
    )
)
_V4_IN_V6: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def is_public(address: str) -> bool:
    """Tell whether an address, as a socket has it, is one of the public internet.

    Forms of IPv6 that carry an IPv4 address are judged by that one where they are another way to write
    it (`::ffff:10.0.0.1`), and are not public where a gateway stands between (6to4, Teredo, NAT64).
    """
    try:
        found: _Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found in _V4_IN_V6:
        found = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _V4_CLOSED)
    return found in _V6_OPEN and not any(found in network for network in _V6_CLOSED)

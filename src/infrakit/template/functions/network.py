"""Arithmetic of IPv4 and IPv6 addresses."""

import ipaddress
from typing import Any

from infrakit.template.failures import Fault
from infrakit.template.functions.table import function
from infrakit.template.limits import Exceeded
from infrakit.template.run import Frame, text_of

HOSTS_MAX = 10_000
_BIG = 1 << 130
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@function("ip_add(address, number)", example="{{ '10.0.0.250' | ip_add(10) }}", result="10.0.1.4", is_filter=True)
def ip_add(_frame: Frame, address: str, number: Any) -> str:
    """Add a number, which may be negative, to an address. A prefix length, as in `10.0.0.1/24`, is kept."""
    bare, slash, prefix = str(address).partition("/")
    if not isinstance(number, int) or abs(number) > _BIG:
        raise Fault("ip_add takes a whole number")
    try:
        return f"{_address(bare) + number}{slash}{prefix}"
    except ipaddress.AddressValueError:
        raise Fault(f"there is no address {number} after {bare}") from None


@function("ip_diff(address, other)", example="{{ ip_diff('10.0.1.0', '10.0.0.0') }}", result="256", is_filter=True)
def ip_diff(_frame: Frame, address: str, other: str) -> int:
    """Return the distance from the second address to the first."""
    return int(_address(address)) - int(_address(other))


@function("cidr_host(network, number)", example="{{ cidr_host('10.0.0.0/24', 5) }}", result="10.0.0.5", is_filter=True)
def cidr_host(_frame: Frame, network: str, number: Any) -> str:
    """Return the address with that number in a network. Negative numbers count from its end."""
    found = _network(network)
    if not isinstance(number, int) or not -found.num_addresses <= number < found.num_addresses:
        raise Fault(f"there is no address {number} in {found}, which has {found.num_addresses:,}")
    return str(found[number])


@function(
    "cidr_hosts(network)", example="{{ cidr_hosts('10.0.0.0/30') }}", result='["10.0.0.1", "10.0.0.2"]', is_filter=True
)
def cidr_hosts(_frame: Frame, network: str) -> list[str]:
    """Return the host addresses of a network of at most 10,000 addresses."""
    found = _network(network)
    if found.num_addresses > HOSTS_MAX:
        raise Exceeded(f"{found} has more than {HOSTS_MAX:,} addresses")
    return [str(each) for each in found.hosts()]


@function("cidr_netmask(network)", example="{{ cidr_netmask('10.0.0.0/22') }}", result="255.255.252.0", is_filter=True)
def cidr_netmask(_frame: Frame, network: str) -> str:
    """Return the netmask of a network."""
    return str(_network(network).netmask)


@function("cidr_prefix(network)", example="{{ cidr_prefix('10.0.0.7/22') }}", result="22", is_filter=True)
def cidr_prefix(_frame: Frame, network: str) -> int:
    """Return the prefix length of a network."""
    return int(_network(network).prefixlen)


@function("cidr_network(address)", example="{{ cidr_network('10.0.0.7/22') }}", result="10.0.0.0/22", is_filter=True)
def cidr_network(_frame: Frame, address: str) -> str:
    """Return the network of an address with a prefix length."""
    return str(_network(address))


@function("cidr_broadcast(network)", example="{{ cidr_broadcast('10.0.0.0/22') }}", result="10.0.3.255", is_filter=True)
def cidr_broadcast(_frame: Frame, network: str) -> str:
    """Return the broadcast address of a network, the last one."""
    return str(_network(network).broadcast_address)


@function(
    "cidr_subnet(network, bits, number)",
    example="{{ cidr_subnet('10.0.0.0/16', 8, 3) }}",
    result="10.0.3.0/24",
    is_filter=True,
)
def cidr_subnet(_frame: Frame, network: str, bits: int, number: Any) -> str:
    """Return the subnet with that number, after the prefix of a network is extended by `bits`."""
    found = _network(network)
    length = found.prefixlen + bits
    if bits < 0 or length > found.max_prefixlen or not 0 <= number < 1 << bits:
        raise Fault(f"there is no subnet {number} of {found} extended by {bits} bits")
    start = int(found.network_address) + (number << (found.max_prefixlen - length))
    return str(type(found)((start, length)))


@function(
    "in_network(address, network)", example="{{ in_network('10.0.0.9', '10.0.0.0/24') }}", result="true", is_filter=True
)
def in_network(_frame: Frame, address: str, network: str) -> bool:
    """Whether an address is in a network."""
    return _address(address) in _network(network)


@function(
    "is_ip(text)",
    example="{{ is_ip('10.0.0.1') }} {{ is_ip('fe80::1') }} {{ is_ip('db1') }}",
    result="true true false",
    is_filter=True,
)
def is_ip(_frame: Frame, text: str) -> bool:
    """Whether a string is an IP address."""
    try:
        ipaddress.ip_address(text_of(text))
    except ValueError:
        return False
    return True


def _address(text: object) -> Any:
    try:
        return ipaddress.ip_address(text_of(text).partition("/")[0])
    except ValueError:
        raise Fault(f"{text_of(text)[:100]!r} is not an IP address") from None


def _network(text: object) -> Any:
    try:
        return ipaddress.ip_network(text_of(text), strict=False)
    except ValueError:
        raise Fault(f"{text_of(text)[:100]!r} is not a network", "write ADDRESS/PREFIX, as in 10.0.0.0/24") from None

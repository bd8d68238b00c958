"""Clips by URL, from hosts that the server's owner has named, and from no other.

A name is resolved once and the connection goes to just that address, so that a name cannot mean one host when it is checked
and another when it is used. Private addresses are reached only where the owner named the address itself, or localhost.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence
from urllib.parse import SplitResult, urljoin, urlsplit

from .api_errors import ApiError, invalid
from .uploads import UploadLimits

SECONDS = 20.0  # for all of it
MAX_REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
CHUNK = 2**16


def fetch_url(url: object, param: str, hosts: Sequence[str], limits: UploadLimits) -> bytes:
    """Fetch a clip.

    Args:
        url: http or https.
        param: where the request has it.
        hosts: `HOST` for the usual ports, or `HOST:PORT`.
        limits: of the bytes.

    Raises:
        ApiError: the host is not one of these, or gives no clip.
    """
    if not isinstance(url, str) or len(url) > 4096:
        raise invalid(param, "expected a URL")
    until, first = time.monotonic() + SECONDS, _split(url, param)
    place = first
    for _ in range(MAX_REDIRECTS + 1):
        _require_named(place, param, hosts)
        if (place.hostname, _port(place)) != (first.hostname, _port(first)):
            raise invalid(param, "leads to another host; give that host's URL")
        try:
            found = _get(place, until, limits.max_bytes)
        except (OSError, http.client.HTTPException, ValueError):
            raise invalid(param, "the host cannot be reached, or broke off") from None
        if isinstance(found, bytes):
            if len(found) > limits.max_bytes:
                raise ApiError(413, f"{param}: the clip has more than {limits.max_bytes} bytes", param, "body_too_large")
            return found
        status, location = found
        if not location:
            raise invalid(param, f"the host answered {status}; expected a clip")
        place = _split(urljoin(place.geturl(), location), param)
    raise invalid(param, f"is redirected more than {MAX_REDIRECTS} times")


def _split(url: str, param: str) -> SplitResult:
    try:
        place = urlsplit(url)
        _ = place.port
    except ValueError:
        raise invalid(param, "expected a URL") from None
    if place.scheme not in PORTS or not place.hostname or place.username or place.password or not url.isascii():
        raise invalid(param, "expected an http, https or data: URL, in ASCII and without a user's name")
    return place


def _port(place: SplitResult) -> int:
    return place.port or PORTS[place.scheme]


def _require_named(place: SplitResult, param: str, hosts: Sequence[str]) -> None:
    host, port = place.hostname or "", _port(place)
    shown = f"[{host}]" if ":" in host else host
    usual = {shown} if port == PORTS[place.scheme] else set()
    if not ({f"{shown}:{port}"} | usual) & {each.lower() for each in hosts}:
        raise ApiError(403, f"{param}: clips are not fetched from that host; see --allow-urls", param, "host_not_allowed")


def _address(host: str, port: int) -> str:
    """The one address that is connected to.

    Raises:
        OSError: there is none, or it is a private one that was not named as such.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    named = host == "localhost" or _is_address(host)
    if not named and not all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_global for each in found):
        raise OSError("a private address")
    return str(found[0][4][0])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _get(place: SplitResult, until: float, most: int) -> bytes | tuple[int, str]:
    """The content, at most one byte more than allowed; or the status, and where it leads to."""
    host, port = place.hostname or "", _port(place)
    connection = http.client.HTTPConnection(host, port)
    wire = socket.create_connection((_address(host, port), port), timeout=_left(until))
    try:
        if place.scheme == "https":
            wire = ssl.create_default_context().wrap_socket(wire, server_hostname=host)
        connection.sock = wire
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        connection.request("GET", path, headers={"Accept": "audio/*, */*;q=0.5", "Accept-Encoding": "identity"})
        answer = connection.getresponse()
        if answer.status != 200:
            leads = answer.status in (301, 302, 303, 307, 308)
            return answer.status, (answer.headers.get("location") or "") if leads else ""
        data = bytearray()
        while len(data) <= most:
            wire.settimeout(_left(until))
            piece = answer.read1(min(CHUNK, most + 1 - len(data)))
            if not piece:
                break
            data += piece
        return bytes(data)
    finally:
        connection.close()
        wire.close()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

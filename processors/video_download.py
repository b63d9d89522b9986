"""A video behind an http(s) address, whole or an error, within limits of size and time."""

import http.client
import ipaddress
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit


IDLE_SECONDS = 60  # without an answer
PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class DownloadLimits:
    """
    Limits of what is fetched from an address or read from a file object (decision).

    Args:
        max_bytes (`int`, *optional*, defaults to 4 GiB): The largest video.
        max_seconds (`float`, *optional*, defaults to 900): The longest time a download may take, redirects included.
        public_only (`bool`, *optional*, defaults to `False`):
            Whether addresses of this machine and its network are refused, at the start and after each redirect. A
            server that asks for its users sets it. No proxy is used then, for only the proxy would know the host.
            Paths of files are opened all the same: a server must not take them from its users.
    """

    max_bytes: int = 4 << 30
    max_seconds: float = 900
    public_only: bool = False

    def __post_init__(self):
        for name in ("max_bytes", "max_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{name}, a limit of downloads, must be a number above 0; got {value!r}.")
        if not isinstance(self.public_only, bool):
            raise ValueError(f"public_only, a limit of downloads, must be True or False; got {self.public_only!r}.")

    @classmethod
    def from_dict(cls, limits: dict[str, Any]) -> "DownloadLimits":
        """The limits that a dictionary names, the others by default."""
        unknown = sorted(set(limits) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"download_limits has {', '.join(cls.__dataclass_fields__)}, but no {', '.join(unknown)}."
            )
        return cls(**limits)


_limits: ContextVar[DownloadLimits] = ContextVar("download_limits", default=DownloadLimits())  # noqa: B039 (frozen)


@contextmanager
def limit_downloads(limits: DownloadLimits) -> Iterator[None]:
    """
    Sets the limits of all downloads inside a `with`.

    Args:
        limits ([`DownloadLimits`]): The limits.
    """
    before = _limits.set(limits)
    try:
        yield
    finally:
        _limits.reset(before)


def current_limits() -> DownloadLimits:
    """The limits that hold here."""
    return _limits.get()


class DownloadError(Exception):
    """A download that failed or met a limit; its text is the reason."""


def download(address: str, file: BinaryIO) -> None:
    r"""
    Fetches a whole file.

    Args:
        address (`str`): An http(s) address. Spaces, accents and host names of other scripts are
            escaped.
        file: A file open for writing bytes.

    Raises:
        `DownloadError`: If the address is malformed, not public where it must be, does not answer, breaks off, or is
            larger or slower than [`DownloadLimits`] allow.
    """
    limits = current_limits()
    with _Deadline(limits.max_seconds) as deadline:
        try:
            with _opener(limits, deadline).open(_quoted(address), timeout=IDLE_SECONDS) as response:
                _copy(response, file, limits)
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            deadline.check()
            raise DownloadError(f"the download failed ({_reason(error)})") from None
        deadline.check()  # a connection that was cut may look like the end of the file


def _copy(response: http.client.HTTPResponse, file: BinaryIO, limits: DownloadLimits) -> None:
    announced = response.length  # None where the end of the connection is the end of the file
    too_large = DownloadError(f"the download is larger than the limit of {limits.max_bytes} bytes")
    if announced is not None and announced > limits.max_bytes:
        raise too_large
    received = 0
    while piece := response.read(PIECE):
        received += len(piece)
        if received > limits.max_bytes:
            raise too_large
        file.write(piece)
    if announced is not None and received < announced:
        raise OSError(f"it broke off after {received} of {announced} bytes")


def _quoted(address: str) -> str:
    """An address as it is sent: spaces and accents escaped, what is escaped already left alone."""
    parts = urlsplit(address)
    if not parts.hostname:
        raise ValueError("the address names no host")
    if "@" in parts.netloc:
        raise ValueError("an address with a user name is not supported")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    if not re.fullmatch(r"[\w.:%-]+", host):
        raise ValueError(f"{host!r} is no host name")
    host = f"[{host}]" if ":" in host else host
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    path, query = (
        re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", quote(part, safe="%/:=&?~+!$,;'@()*[]")) for part in parts[2:4]
    )
    return urlunsplit((parts.scheme, netloc, path, query, ""))


class _Deadline:
    """Cuts the current connection when the time is over, wherever it waits."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.over = False
        self.socket: socket.socket | None = None
        self.timer = threading.Timer(seconds, self._cut)
        self.timer.daemon = True
        self.end = time.monotonic() + seconds

    def __enter__(self) -> "_Deadline":
        self.timer.start()
        return self

    def __exit__(self, *_) -> None:
        self.timer.cancel()

    def _cut(self) -> None:
        self.over = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except (AttributeError, OSError):  # not connected, or no longer
            pass

    def watch(self, connected: socket.socket) -> None:
        """Takes the socket that is to be cut."""
        self.socket = connected
        self.check()

    def remaining(self) -> float:
        """Seconds that a wait may last."""
        return min(IDLE_SECONDS, max(0.1, self.end - time.monotonic()))

    def check(self) -> None:
        """Raises a `DownloadError` if the time is over."""
        if self.over:
            raise DownloadError(f"the download took longer than the limit of {self.seconds:g} s")


class _Connection(http.client.HTTPConnection):
    """Connects to an address that was looked up and checked once, so that it cannot change in between."""

    limits: DownloadLimits
    deadline: _Deadline

    def connect(self) -> None:
        if not self.limits.public_only:
            super().connect()
        else:
            self.sock = self._connect_public()
        self.deadline.watch(self.sock)

    def _connect_public(self) -> socket.socket:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(place[0] for *_, place in found))
        if not all(map(_is_public, addresses)):
            raise DownloadError("only public addresses are allowed, and this one is of a private network")
        for number, address in enumerate(addresses, start=1):
            try:
                return socket.create_connection((address, self.port), self.deadline.remaining())
            except OSError:
                if number == len(addresses):
                    raise
        raise OSError("the host has no address")


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    """The same with TLS: `HTTPSConnection.connect` secures what `_Connection.connect` opened."""

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)


def _is_public(address: str) -> bool:
    """Whether an IP address is reachable for everybody; addresses that carry an IPv4 address are that address."""
    ip = ipaddress.ip_address(address)
    if ip.version == 6:
        carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if carried is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            carried = ipaddress.ip_address(int(ip) & 0xFFFFFFFF)
        ip = carried or ip
    return ip.is_global and not ip.is_multicast


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect without reading what came with it, which may have no end."""

    def redirect_request(self, request, response, code, message, headers, address):
        """The request of the new address, see `urllib.request`."""
        response.close()
        return super().redirect_request(request, response, code, message, headers, _quoted(address))


class _HTTPHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens both schemes by the connections above."""

    def __init__(self, limits: DownloadLimits, deadline: _Deadline):
        super().__init__()
        self.limits, self.deadline = limits, deadline

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, _Connection), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, _SecureConnection), request)

    def _connection(self, kind: type[_Connection], *args, **kwargs) -> _Connection:
        connection = kind(*args, **kwargs)
        connection.limits, connection.deadline = self.limits, self.deadline
        return connection


def _opener(limits: DownloadLimits, deadline: _Deadline) -> urllib.request.OpenerDirector:
    """Opens http(s) addresses and nothing else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if limits.public_only else None),
        _HTTPHandler(limits, deadline),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _reason(error: Exception) -> str:
    """What went wrong, in the first line of the error's words."""
    if isinstance(error, http.client.BadStatusLine | http.client.IncompleteRead):
        return "the server's answer broke off or is no HTTP"
    if isinstance(error, UnicodeError):
        return "the address is malformed"
    cause = getattr(error, "reason", error)
    reason = str(getattr(cause, "strerror", None) or cause).strip()
    return reason.splitlines()[0][:200] if reason else type(error).__name__


__all__ = ["DownloadError", "DownloadLimits", "current_limits", "download", "limit_downloads"]

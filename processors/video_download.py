"""Downloads a video from an http(s) address, whole or with an error, within limits of size and time."""

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from .video_error import VideoDecodingError, first_line


if TYPE_CHECKING:
    import httpx


IDLE_SECONDS = 60  # without a byte from the server
RETRY_AFTER = 1.0  # seconds
MAX_REDIRECTS = 10
# IPv6 addresses that reach an IPv4 address, which stands in their last 32 bits.
IPV4_INSIDE = [ipaddress.ip_network(network) for network in ("::ffff:0:0/96", "64:ff9b::/96")]
# Everything that everybody can reach, except the tunnels 6to4 and Teredo, which reach an IPv4 address too.
IPV6_PUBLIC = ipaddress.ip_network("2000::/3")
IPV6_TUNNELS = [ipaddress.ip_network(network) for network in ("2002::/16", "2001::/32")]


@dataclass(frozen=True)
class DownloadLimits:
    """
    Limits of a video that is downloaded or read from a file object (decision).

    Args:
        max_bytes (`int`, *optional*, defaults to 4 GiB): The largest video.
        max_seconds (`float`, *optional*, defaults to 900): The longest download, with its redirects and its retry.
        public_only (`bool`, *optional*, defaults to `False`):
            Whether addresses of this machine and its network are refused, at the start and after each redirect, and
            so are stores that this machine may have the keys of. A server that downloads for its users sets it. No
            proxy is used then, because only the proxy would know the host. Paths of files are opened all the same: a
            server must not take them from its users.
    """

    max_bytes: int = 4 << 30
    max_seconds: float = 900
    public_only: bool = False

    @classmethod
    def from_dict(cls, limits: dict[str, Any]) -> "DownloadLimits":
        """Makes limits of a dictionary; those that it does not name have their defaults."""
        try:
            made = cls(**limits)
            right = made.max_bytes > 0 and made.max_seconds > 0 and isinstance(made.public_only, bool)
        except TypeError:
            right = False
        if not right:
            raise ValueError(
                f"download_limits takes max_bytes and max_seconds above 0, and public_only, a boolean; got {limits}."
            )
        return made

    def check_size(self, size: int) -> None:
        """Raises a `ValueError` if a video of `size` bytes is too large."""
        if size > self.max_bytes:
            raise ValueError(f"it is larger than the limit of {self.max_bytes} bytes")


download_limits: ContextVar[DownloadLimits] = ContextVar("limits", default=DownloadLimits())  # noqa: B039 (frozen)


@contextmanager
def limit_downloads(limits: DownloadLimits) -> Iterator[None]:
    """
    Sets the limits of all downloads inside a `with`.

    Args:
        limits ([`DownloadLimits`]): The limits.
    """
    before = download_limits.set(limits)
    try:
        yield
    finally:
        download_limits.reset(before)


def download(address: str, file: BinaryIO) -> None:
    r"""
    Downloads a whole file. A server's error (5xx) or silence is tried once again.

    Args:
        address (`str`): An http(s) address; spaces, accents and host names of other scripts are escaped.
        file: A file open for writing bytes.

    Raises:
        [`VideoDecodingError`]: If the address is malformed, not public where it must be, does not answer, breaks off,
            or is larger or slower than [`DownloadLimits`] allow.
    """
    try:  # a third of a second that only addresses need; the code of a checkpoint may be without them
        import httpx  # noqa: F401
        from anyio.from_thread import start_blocking_portal
    except ImportError:
        raise VideoDecodingError(address, "an address needs httpx: pip install httpx") from None
    # A thread with an event loop, which can be cut off wherever it waits, also under a caller that has a loop itself.
    with start_blocking_portal() as portal:
        portal.call(_download, address, file, download_limits.get())


async def _download(address: str, file: BinaryIO, limits: DownloadLimits) -> None:
    import anyio
    import httpx

    try:
        with anyio.fail_after(limits.max_seconds):
            try:
                await _fetch(address, file, limits)
            except (httpx.TimeoutException, httpx.HTTPStatusError) as error:
                if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                    raise
                await anyio.sleep(RETRY_AFTER)
                file.seek(0)
                file.truncate()
                await _fetch(address, file, limits)
    except TimeoutError:
        raise VideoDecodingError(address, f"the download passed the limit of {limits.max_seconds:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise VideoDecodingError(address, f"the download failed ({first_line(error)})") from None


async def _fetch(address: str, file: BinaryIO, limits: DownloadLimits) -> None:
    """Follows redirects by itself: each address is checked, and a redirect's content, which may not end, not read."""
    import httpx

    headers = {"User-Agent": f"siasamrea python-httpx/{httpx.__version__}", "Accept-Encoding": "identity"}
    headers["Connection"] = "close"
    url = httpx.URL(re.sub("%(?![0-9A-Fa-f]{2})", "%25", address))  # httpx escapes all but a lone %
    async with httpx.AsyncClient(timeout=IDLE_SECONDS, headers=headers, trust_env=not limits.public_only) as client:
        for _ in range(1 + MAX_REDIRECTS):
            if not url.host:
                raise ValueError("the address names no host")
            if (url.port or 80) > 65535:
                raise ValueError(f"there is no port {url.port}")
            if url.userinfo:
                raise ValueError("an address with a user name is not supported")  # a password would be in each error
            request = await _pinned(client, url) if limits.public_only else client.build_request("GET", url)
            response = await client.send(request, stream=True)
            try:
                if not response.has_redirect_location:
                    return await _copy(response, file, limits)
                url = url.join(response.headers["Location"])
            finally:
                await response.aclose()
    raise ValueError(f"more than {MAX_REDIRECTS} redirects")


async def _pinned(client: "httpx.AsyncClient", url: "httpx.URL") -> "httpx.Request":
    """Builds a request to the host's IP address, which is looked up and checked once, so that it cannot change."""
    from anyio import getaddrinfo

    host = url.raw_host.decode()
    addresses = [place[0] for *_, place in await getaddrinfo(host.strip("[]"), url.port, type=1)]
    if not addresses or not all(map(_is_public, addresses)):
        raise ValueError("only public addresses are allowed, and this one is of a private network")
    return client.build_request(
        "GET",
        url.copy_with(host=addresses[0]),
        headers={"Host": url.netloc.decode()},
        extensions={"sni_hostname": host},  # the name that the certificate must have
    )


async def _copy(response: "httpx.Response", file: BinaryIO, limits: DownloadLimits) -> None:
    from httpx import HTTPStatusError

    if response.status_code != 200:
        reason = f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
        raise HTTPStatusError(reason, request=response.request, response=response)
    limits.check_size(int(response.headers.get("Content-Length", 0)))
    async for piece in response.aiter_raw():
        file.write(piece)
        limits.check_size(file.tell())


def _is_public(address: str) -> bool:
    """Returns whether an IP address is public; one that leads to an IPv4 address is judged as that address."""
    ip = ipaddress.ip_address(address)
    if ip.version == 6:
        if any(ip in network for network in IPV4_INSIDE):
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in IPV6_PUBLIC or any(ip in network for network in IPV6_TUNNELS):
            return False
    return ip.is_global and not ip.is_multicast

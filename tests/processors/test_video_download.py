"""Downloads from a server that breaks every rule: whole, or one sentence, within the limits."""

import asyncio
import http.server
import threading
import time
from pathlib import Path

import anyio
import pytest

from modeling_siasamrea.processors import video_download
from modeling_siasamrea.processors.video_download import DownloadLimits, limit_downloads
from modeling_siasamrea.processors.video_source import VideoDecodingError, local_file


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the method that the path names; what is after `=` is its argument."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.agents.add(self.headers["User-Agent"])
        name, _, argument = self.path[1:].partition("=")
        try:
            getattr(self, f"send_{name.partition('?')[0]}", self.send_film)(argument)
        except OSError:  # the client has enough
            pass

    def head(self, status: int = 200, **headers: str | int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send_film(self, _):
        self.head(Content_Length=4)
        self.wfile.write(b"film")

    def send_unmeasured(self, _):
        self.head()
        self.wfile.write(b"film")

    def send_chunks(self, ends):
        self.head(Transfer_Encoding="chunked")
        self.wfile.write(b"4\r\nfilm\r\n" + ends.encode())

    def send_short(self, _):
        self.head(Content_Length=100)
        self.wfile.write(b"film")

    def send_empty(self, _):
        self.head(Content_Length=0)

    def send_busy(self, times):
        """A server that fails as often as the path says before it answers."""
        if self.server.asked.count(self.path) <= int(times):
            self.send_error(503)
        else:
            self.send_film("")

    def send_missing(self, _):
        self.send_error(404)

    def send_noise(self, _):
        self.wfile.write(b"this is no HTTP\r\n\r\n")

    def send_silence(self, _):
        pass

    def send_announced(self, length):
        self.head(Content_Length=length)

    def send_endless(self, _):
        self.head()
        while True:
            self.wfile.write(b"x" * 65536)

    def send_drip(self, headers):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n" if headers else b"HTTP/1.0 200 OK\r\n\r\n")
        for _ in range(600):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def send_to(self, address):
        self.head(302, Location=address)
        while self.path.endswith("#endless"):
            self.wfile.write(b"x" * 65536)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(video_download, "RETRY_AFTER", 0.01)


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked, server.agents = [], set()
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def content(address: str, **limits) -> bytes:
    with limit_downloads(DownloadLimits(**limits)), local_file(address) as path:
        return Path(path).read_bytes()


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("film.mp4", "/film.mp4"),
        ("a film é.mp4?x=a b", "/a%20film%20%C3%A9.mp4?x=a%20b"),
        ("a%20film%C3%A9.mp4", "/a%20film%C3%A9.mp4"),
        ("100%.mp4", "/100%25.mp4"),
        ("film.mp4#t=10", "/film.mp4"),
        ("unmeasured", "/unmeasured"),
        ("to=/film.mp4", "/film.mp4"),
    ],
)
def test_whole_downloads(server, path, asked):
    assert content(f"{server.address}/{path}") == b"film"
    assert server.asked[-1] == asked
    assert content(f"{server.address.replace('http', 'HTTP')}/{path}") == b"film"


def test_the_user_agent_names_the_package(server):
    content(f"{server.address}/film.mp4")
    assert all(agent.startswith("siasamrea ") for agent in server.agents)


def test_a_failing_server_is_asked_once_more(server):
    assert content(f"{server.address}/busy=1") == b"film"
    with pytest.raises(VideoDecodingError, match="503"):
        content(f"{server.address}/busy=2")
    assert server.asked == ["/busy=1"] * 2 + ["/busy=2"] * 2
    with pytest.raises(VideoDecodingError, match="404"):
        content(f"{server.address}/missing")
    assert server.asked.count("/missing") == 1


def test_a_silent_server_is_asked_once_more(server, monkeypatch):
    monkeypatch.setattr(video_download, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(Handler, "send_silence", lambda self, _: time.sleep(0.3))
    with pytest.raises(VideoDecodingError, match="the download failed .ReadTimeout"):
        content(f"{server.address}/silence")
    assert server.asked == ["/silence"] * 2


def test_a_caller_with_an_event_loop(server):
    async def ask() -> bytes:
        return content(f"{server.address}/film.mp4")

    assert asyncio.run(ask()) == b"film"


def test_chunks(server):
    handler = type("Chunked", (Handler,), {"protocol_version": "HTTP/1.1"})
    server.RequestHandlerClass = handler
    for ends in ("zz", "ff"):
        with pytest.raises(VideoDecodingError, match="the download failed"):
            content(f"{server.address}/chunks={ends}")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("short", "received 4 bytes, expected 100"),
        ("empty", "there are no bytes in it"),
        ("noise", "the download failed"),
        ("silence", "the download failed"),
        ("announced=999999", "limit of 100000 bytes"),
        ("endless", "limit of 100000 bytes"),
        ("drip=", "limit of 0.5 s"),
        ("drip=headers", "limit of 0.5 s"),
        ("to=ftp://127.0.0.1/film.mp4", "protocol 'ftp://'"),
        ("to=file:///etc/hostname", "the address names no host"),
        ("to=http://127.0.0.1:99999/", "the download failed"),
        ("to=/to=/to=", "more than 10 redirects"),
    ],
)
def test_bad_servers(server, path, said):
    start = time.monotonic()
    with pytest.raises(VideoDecodingError, match=said) as caught:
        content(f"{server.address}/{path}", max_bytes=100_000, max_seconds=0.5 if path.startswith("drip") else 30)
    assert time.monotonic() - start < 25 and "\n" not in str(caught.value)


def test_what_comes_with_a_redirect_is_not_read(server, monkeypatch):
    monkeypatch.setattr(
        Handler, "send_to", lambda self, address: (self.head(302, Location="/film"), self.send_endless(""))
    )
    assert content(f"{server.address}/to=", max_bytes=100_000, max_seconds=30) == b"film"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://", "names no host"),
        ("http://127.0.0.1:99999/", "the download failed"),
        ("http://127.0.0.1:abc/", "the download failed"),
        ("http://127.0.0.1:1/", "the download failed"),
        ("http://[::1", "the download failed"),
        ("http://a b/", "the download failed"),
        ("http://a..b/", "the download failed"),
        (f"http://{'x' * 70}/", "the download failed"),
        ("http://me:secret@127.0.0.1/", "user name is not supported"),
        ("https://127.0.0.1:1/", "the download failed"),
    ],
)
def test_bad_addresses(address, said):
    with pytest.raises(VideoDecodingError, match=said):
        content(address, max_seconds=30)


def stand_in(monkeypatch, places: list[str]) -> list[str]:
    """Answers look-ups of names with one address after the other; returns the names that were looked up."""
    asked = []

    async def getaddrinfo(host, port, **_):
        asked.append(host)
        return [(2, 1, 6, "", (places[len(asked) - 1], port))]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    return asked


def test_hosts_of_other_scripts_are_asked_for_by_their_ascii_name(monkeypatch):
    asked = stand_in(monkeypatch, ["10.0.0.1"])
    with pytest.raises(VideoDecodingError, match="only public addresses"):
        content("http://bücher.example/film.mp4", public_only=True)
    assert asked == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 localhost 127.1 2130706433 0x7f.1 0 [::1] [::ffff:127.0.0.1] 10.0.0.1 192.168.1.1 169.254.169.254 "
    "100.64.0.1 [fe80::1] [fd00::1] 224.0.0.1".split(),
)
def test_a_server_can_refuse_its_own_network(server, host):
    with pytest.raises(VideoDecodingError, match="only public addresses are allowed"):
        content(f"http://{host}:{server.server_port}/film", public_only=True)
    assert not server.asked


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::5db8:d822", True),
        ("::ffff:127.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::5db8:d822", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", False),
        ("ff0e::1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
    ],
)
def test_addresses_that_reach_another_are_that_one(address, public):
    assert video_download._is_public(address) is public


def test_each_redirect_is_checked_and_relative_ones_keep_the_host(server, monkeypatch):
    """The names pass for public ones; the address that was checked is the one that is connected to, with its name."""
    monkeypatch.setattr(video_download, "_is_public", lambda address: address == "127.0.0.1")
    asked = stand_in(monkeypatch, ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"])
    hosts = []
    monkeypatch.setattr(
        Handler, "send_film", lambda self, _: (hosts.append(self.headers["Host"]), self.send_short(""))
    )
    monkeypatch.setattr(
        Handler, "send_short", lambda self, _: (self.head(Content_Length=4), self.wfile.write(b"film"))
    )
    port = server.server_port
    assert content(f"http://rebinding.example:{port}/to=/film", public_only=True) == b"film"
    assert asked == ["rebinding.example"] * 2 and hosts == [f"rebinding.example:{port}"]
    with pytest.raises(VideoDecodingError, match="only public addresses are allowed"):
        content(f"http://rebinding.example:{port}/to=http://own.example/film", public_only=True)
    assert asked[2:] == ["rebinding.example", "own.example"] and server.asked[-1].startswith("/to=http://own")


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("max_bytes", {"max_bytes": 0}),
        ("max_seconds", {"max_seconds": float("nan")}),
        ("max_seconds", {"max_seconds": "60"}),
        ("public_only", {"public_only": 1}),
        ("private", {"private": True}),
    ],
)
def test_bad_limits(name, limits):
    with pytest.raises(ValueError, match=name):
        DownloadLimits.from_dict(limits)

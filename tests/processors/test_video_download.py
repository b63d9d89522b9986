"""Downloads from a server that breaks every rule: whole, or one sentence, within the limits."""

import http.server
import threading
import time
from pathlib import Path

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
        for _ in range(100):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def send_to(self, address):
        self.head(302, Location=address)
        while self.path.endswith("#endless"):
            self.wfile.write(b"x" * 65536)


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked = []
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


def test_chunks(server):
    handler = type("Chunked", (Handler,), {"protocol_version": "HTTP/1.1"})
    server.RequestHandlerClass = handler
    with pytest.raises(VideoDecodingError, match="the download failed .the server's answer broke off"):
        content(f"{server.address}/chunks=zz")
    with pytest.raises(VideoDecodingError, match="the download failed .the server's answer broke off"):
        content(f"{server.address}/chunks=ff")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("short", "the download failed .it broke off after 4 of 100 bytes"),
        ("empty", "the download is empty"),
        ("missing", "the download failed .Not Found"),
        ("noise", "the server's answer broke off or is no HTTP"),
        ("silence", "the server's answer broke off or is no HTTP"),
        ("announced=999999", "larger than the limit of 100000 bytes"),
        ("endless", "larger than the limit of 100000 bytes"),
        ("drip=", "took longer than the limit of 0.5 s"),
        ("drip=headers", "took longer than the limit of 0.5 s"),
        ("to=ftp://127.0.0.1/film.mp4", "unknown url type: ftp"),
        ("to=file:///etc/hostname", "not allowed"),
        ("to=http://127.0.0.1:99999/", "Port out of range"),
        ("to=/to=/to=", "infinite loop"),
    ],
)
def test_bad_servers(server, path, sentence):
    start = time.monotonic()
    with pytest.raises(VideoDecodingError, match=sentence) as caught:
        content(f"{server.address}/{path}", max_bytes=100_000, max_seconds=0.5)
    assert time.monotonic() - start < 5 and "\n" not in str(caught.value)


def test_what_comes_with_a_redirect_is_not_read(server, monkeypatch):
    monkeypatch.setattr(
        Handler, "send_to", lambda self, address: (self.head(302, Location="/film"), self.send_endless(""))
    )
    assert content(f"{server.address}/to=", max_bytes=100_000, max_seconds=5) == b"film"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://", "the address names no host"),
        ("http://127.0.0.1:99999/", "Port out of range"),
        ("http://127.0.0.1:abc/", "Port could not be cast"),
        ("http://127.0.0.1:1/", "Connection refused"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://a b/", "'a b' is no host name"),
        ("http://a..b/", "the address is malformed"),
        (f"http://{'x' * 70}/", "the address is malformed"),
        ("http://me:secret@127.0.0.1/", "an address with a user name is not supported"),
        ("https://127.0.0.1:1/", "Connection refused"),
    ],
)
def test_bad_addresses(address, sentence):
    with pytest.raises(VideoDecodingError, match=sentence):
        content(address, max_seconds=5)


def test_hosts_of_other_scripts_are_asked_for_by_their_ascii_name(monkeypatch):
    asked = []
    monkeypatch.setattr(video_download.socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or [])
    with pytest.raises(VideoDecodingError, match="the host has no address"):
        content("http://bücher.example/film.mp4", public_only=True)
    assert asked == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 localhost 127.1 2130706433 0x7f.1 0 [::1] [::ffff:127.0.0.1] 10.0.0.1 192.168.1.1 169.254.169.254 "
    "100.64.0.1 [fe80::1] [fd00::1] [2002:7f00:1::] 224.0.0.1 [64:ff9b::7f00:1]".split(),
)
def test_a_server_can_refuse_its_own_network(server, host):
    with pytest.raises(VideoDecodingError, match="only public addresses are allowed"):
        content(f"http://{host}:{server.server_port}/film", public_only=True)
    assert not server.asked


def test_redirects_into_the_own_network_are_refused(monkeypatch):
    """The first address passes for a public one; what it redirects to does not."""
    monkeypatch.setattr(video_download, "_is_public", lambda address: address == "127.0.0.2")
    everywhere = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    everywhere.asked = []
    public, own = (f"http://{host}:{everywhere.server_port}" for host in ("127.0.0.2", "127.0.0.1"))
    threading.Thread(target=everywhere.serve_forever, args=(0.01,), daemon=True).start()
    try:
        assert content(f"{public}/film", public_only=True) == b"film"
        with pytest.raises(VideoDecodingError, match="only public addresses are allowed"):
            content(f"{public}/to={own}/film", public_only=True)
        assert everywhere.asked == ["/film", f"/to={own}/film"]
    finally:
        everywhere.shutdown()
        everywhere.server_close()


def test_the_address_that_was_checked_is_the_one_that_is_asked(server, monkeypatch):
    """A name that means a public address when it is checked and a private one afterwards."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    monkeypatch.setattr(
        video_download.socket,
        "getaddrinfo",
        lambda host, port, *_, **__: [(2, 1, 6, "", (next(answers), port))],
    )
    connected = []

    def create_connection(address, timeout):
        connected.append(address)
        raise OSError("unreachable")

    monkeypatch.setattr(video_download.socket, "create_connection", create_connection)
    with pytest.raises(VideoDecodingError, match="unreachable"):
        content(f"http://rebinding.example:{server.server_port}/film", public_only=True)
    assert connected == [("93.184.216.34", server.server_port)]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"max_bytes": 0}, "max_bytes, a limit of downloads, must be a number above 0; got 0"),
        ({"max_seconds": float("nan")}, "max_seconds.* got nan"),
        ({"max_seconds": "60"}, "max_seconds.* got '60'"),
        ({"public_only": 1}, "public_only.* must be True or False; got 1"),
        ({"private": True}, "download_limits has max_bytes, max_seconds, public_only, but no private"),
    ],
)
def test_bad_limits(limits, sentence):
    with pytest.raises(ValueError, match=sentence):
        DownloadLimits.from_dict(limits)

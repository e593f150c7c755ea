"""TLS of the bus: certificates for a server that is reachable from elsewhere, and for everybody who connects to it.

Mutual, version 1.3: a client shows a certificate of the same authority before the server hears of its nkey, and both check the
other's. One pair of certificate and key serves the embedded server and this machine's clients (extended key usage: both).
"""

import ssl
import stat
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

__all__ = ["TlsFiles", "UnusableCertificate", "client_context", "context_for", "is_loopback", "plain_and_far"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class UnusableCertificate(Exception):
    """A certificate or its key cannot be used: which file, why, what to do."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path = path
        self.problem = problem
        self.remedy = remedy


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What one side needs: the authority that signed the other side's certificate, and its own certificate with its key.

    A client may have no certificate of its own where the server does not ask for one (`verify` off there).
    """

    authority: Path
    certificate: Path | None = None
    key: Path | None = None
    # Whether a server demands a certificate of its clients. Clients always verify the server.
    verify: bool = True

    def check(self) -> None:
        """Raises UnusableCertificate for what is missing, and for a private key that others can read."""
        for path in (self.authority, self.certificate, self.key):
            if path is not None and not path.is_file():
                raise UnusableCertificate(path, "no such file", "see nats.tls in `overseer config`")
        if self.key is not None and self.key.stat().st_mode & _OTHERS:
            raise UnusableCertificate(self.key, "others can read this private key", f"run: chmod 600 {self.key}")


def context_for(urls: Iterable[str], files: TlsFiles | None) -> ssl.SSLContext | None:
    """What a client connects to these servers with; None: in clear. Raises UnusableCertificate.

    With certificates, or with one server at tls://, TLS is demanded of all; without an authority of ours the system's count.
    """
    if files is not None:
        return client_context(files)
    if not any(urlsplit(url).scheme == "tls" for url in urls):
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """What a client with these certificates connects with. Raises UnusableCertificate."""
    files.check()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    path = files.authority
    try:
        context.load_verify_locations(files.authority)
        if files.certificate is not None:
            path = files.certificate
            context.load_cert_chain(files.certificate, files.key)
    except (ssl.SSLError, OSError) as error:
        raise UnusableCertificate(path, f"cannot be used: {error}", "give PEM files that belong together") from error
    return context


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine. Names are not resolved: whoever answers for them is not known."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def plain_and_far(urls: Iterable[str]) -> list[str]:
    """Those of the servers that would be spoken to in clear, beyond this machine."""
    return [url for url in urls if urlsplit(url).scheme != "tls" and not is_loopback(urlsplit(url).hostname or "")]

"""Real certificates for a test, made by the openssl command."""

import shutil
import subprocess
from pathlib import Path

import pytest

from overseer.nats.tls import TlsFiles

__all__ = ["Authority"]


class Authority:
    """A certificate authority of its own, and what it signs."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl command: certificates cannot be made here")
        folder.mkdir(parents=True)
        self.folder = folder
        self.file = folder / "ca.pem"
        self._make("ca", "-subj", "/CN=test authority")

    def signed(self, name: str, *names: str) -> TlsFiles:
        """A certificate for these names (`DNS:x`, `IP:x`), for a server and a client alike."""
        alternatives = f"subjectAltName={','.join(names)}"
        usage = "extendedKeyUsage=serverAuth,clientAuth"
        signer = ("-CA", str(self.file), "-CAkey", str(self.folder / "ca.key"))
        self._make(name, "-subj", f"/CN={name}", *signer, "-addext", alternatives, "-addext", usage)
        return TlsFiles(authority=self.file, certificate=self.folder / f"{name}.pem", key=self.folder / f"{name}.key")

    def _make(self, name: str, *options: str) -> None:
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key), "-out", str(certificate))
        done = subprocess.run(["openssl", "req", "-x509", "-days", "2", *new, *options], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        key.chmod(0o600)

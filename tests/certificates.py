"""Certificates for tests of TLS, made by `openssl` on the spot: a CA, and what it signs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from attrs import frozen

__all__ = ["Authority", "Certificate"]


@frozen
class Certificate:
    certificate: Path
    key: Path


@frozen
class Authority:
    """A CA in a folder of its own."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        assert shutil.which("openssl"), "the tests need openssl: install the package (apt-get install openssl)"
        folder.mkdir()
        request = "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=CA"
        _openssl(folder, *request.split(), "-addext", "basicConstraints=critical,CA:TRUE")
        return cls(folder)

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def sign(self, name: str, subject: str, *, days: int = 30) -> Certificate:
        """A certificate for a subject such as `DNS:localhost`; one of -1 days has expired."""
        request = f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        _openssl(self.folder, *request.split())
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={subject}\n")
        signing = f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile {name}.ext"
        _openssl(self.folder, *signing.split(), "-out", f"{name}.pem")
        return Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr

"""Certificates for tests of TLS: a CA made on the spot, and what it signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import field, frozen
from trustme import CA

__all__ = ["Authority", "Certificate"]


@frozen
class Certificate:
    certificate: Path
    key: Path


@frozen
class Authority:
    """A CA; its files lie in a folder of their own."""

    folder: Path
    ca: CA = field(factory=CA, repr=False)

    @classmethod
    def make(cls, folder: Path) -> Authority:
        folder.mkdir()
        made = cls(folder)
        made.ca.cert_pem.write_to_path(str(made.file))
        return made

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def sign(self, name: str, *subjects: str, days: int = 30) -> Certificate:
        """A certificate for hosts and addresses; one of -1 days has expired."""
        found = self.ca.issue_cert(*subjects, common_name=name, not_after=datetime.now(UTC) + timedelta(days=days))
        made = Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        found.private_key_pem.write_to_path(str(made.key))
        for number, part in enumerate(found.cert_chain_pems):
            part.write_to_path(str(made.certificate), append=number > 0)
        return made

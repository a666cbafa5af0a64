"""Write the pictures of docs/architecture.md into docs/pictures."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "scripts"))
    from pictures.all import drawn

    for name, picture in drawn(ROOT).items():
        (ROOT / "docs" / "pictures" / name).write_text(picture, encoding="utf-8")
        print(f"docs/pictures/{name}")

"""Draws the pictures of docs/architecture.md: `python scripts/pictures` writes them anew."""

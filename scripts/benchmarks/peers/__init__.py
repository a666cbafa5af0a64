"""Other libraries that keep agents' state, each doing the work of `work.py` in its own natural way."""

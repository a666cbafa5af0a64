"""An agent in memory."""

from __future__ import annotations

from .activation import Activation
from .envelopes import INLINE, envelope_of
from .passivation import Passivation

__all__ = ["INLINE", "Activation", "Passivation", "envelope_of"]

"""OpenTelemetry spans of a system's messages, across processes. Extra: `duramen[otel]`."""

from __future__ import annotations

from .tracing import OpenTelemetryTracing

__all__ = ["OpenTelemetryTracing"]

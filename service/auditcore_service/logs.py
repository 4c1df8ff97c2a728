"""Structured logs: static event names, identifiers as fields."""

from __future__ import annotations

import logging
import sys

import structlog

from auditcore_service.settings import Settings


def configure_logs(settings: Settings) -> None:
    """Log to standard error: as text on a terminal, else as JSON lines, unless the settings say otherwise."""
    as_json = settings.log_json if settings.log_json is not None else not sys.stderr.isatty()
    # plain tracebacks: the default formatter prints local variables, which include settings with secrets
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if as_json else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_standard_error_logger,
        cache_logger_on_first_use=False,
    )


def _standard_error_logger(*_names: str) -> structlog.WriteLogger:
    """A logger to standard error as it is now: a program that calls this one may replace the stream."""
    return structlog.WriteLogger(sys.stderr)

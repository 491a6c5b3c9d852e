"""The errors of this package, each a sentence that says what to do."""

from __future__ import annotations


class DownloadError(OSError):
    """A file of published weights cannot be had, or is not the one that was published."""


class UnreachableError(DownloadError):
    """There is no connection to the server; perhaps there is no network."""


class LicenseError(ValueError):
    """The license of published weights is none of those that the user allows."""

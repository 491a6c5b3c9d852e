"""Findings as a self-contained HTML page: a heat map of errors, with a plot along the network for each cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from resnet_spec.parity import tables
from resnet_spec.parity.compare import Finding
from resnet_spec.parity.saved_records import installed_versions


def to_html(findings: Sequence[Finding]) -> str:
    """Return the text of the page."""
    template = (files("resnet_spec") / "parity" / "report.html").read_text(encoding="utf-8")
    rows = [{**tables.to_json(finding), "sentence": tables.describe(finding)} for finding in findings]
    data = json.dumps({"findings": rows, "versions": installed_versions()}, separators=(",", ":"))
    return template.replace("/*DATA*/null", data.replace("</", "<\\/"))

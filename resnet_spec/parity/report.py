"""Findings as one HTML page that needs nothing else: a heat map of errors, and each cell's along the depth of its network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from resnet_spec.parity import tables
from resnet_spec.parity.compare import Finding
from resnet_spec.parity.saved_records import versions


def page(findings: Sequence[Finding]) -> str:
    """The page's text."""
    template = (files("resnet_spec") / "parity" / "report.html").read_text(encoding="utf-8")
    rows = [{**tables.data(finding), "sentence": tables.sentence(finding)} for finding in findings]
    data = json.dumps({"findings": rows, "versions": versions()}, separators=(",", ":"))
    return template.replace("/*DATA*/null", data.replace("</", "<\\/"))

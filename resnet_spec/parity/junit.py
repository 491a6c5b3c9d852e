"""Findings as JUnit XML, which CI systems read: a suite per network, a test case per backend, type and group."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree

from resnet_spec.parity.compare import Finding
from resnet_spec.parity.tables import describe

ELEMENTS = {
    "differs": "failure",
    "failed": "error",
    "ill-conditioned": "error",
    "reported": "skipped",
    "alone": "skipped",
}
"""The element that a test case holds, by verdict. A test case that passes holds none."""


def to_junit(findings: Sequence[Finding]) -> str:
    """Return the text of an XML document."""
    root = ElementTree.Element("testsuites", name="resnet-spec parity")
    for network, group in groupby(findings, lambda finding: finding.network):
        rows = list(group)
        elements = [ELEMENTS.get(row.verdict) for row in rows]
        counts = {
            "tests": len(rows),
            "failures": elements.count("failure"),
            "errors": elements.count("error"),
            "skipped": elements.count("skipped"),
        }
        attributes = {"name": network} | {key: str(value) for key, value in counts.items()}
        suite = ElementTree.SubElement(root, "testsuite", attributes)
        for row in rows:
            _add_test_case(suite, row)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_test_case(suite: ElementTree.Element, finding: Finding) -> None:
    name = f"{finding.backend} {finding.dtype} {finding.group}"
    case = ElementTree.SubElement(suite, "testcase", classname=f"parity.{finding.network}", name=name)
    element = ELEMENTS.get(finding.verdict)
    if element is not None:
        figures = f"worst {finding.worst:.1e}, gate {finding.gate}, compared with {finding.reference}"
        ElementTree.SubElement(case, element, message=f"{describe(finding)}; {figures}")

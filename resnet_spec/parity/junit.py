"""Findings as JUnit XML, which CI systems read: a suite for each network, a case for each backend, type and group."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree

from resnet_spec.parity.compare import Finding
from resnet_spec.parity.tables import sentence


def xml(findings: Sequence[Finding]) -> str:
    """The document's text."""
    root = ElementTree.Element("testsuites", name="resnet-spec parity")
    for network, found in groupby(findings, lambda finding: finding.network):
        rows = list(found)
        counts = {
            "tests": len(rows),
            "failures": sum(row.verdict == "differs" for row in rows),
            "errors": sum(row.verdict == "failed" for row in rows),
            "skipped": sum(row.verdict in ("reported", "alone") for row in rows),
        }
        suite = ElementTree.SubElement(
            root, "testsuite", {"name": network} | {key: str(value) for key, value in counts.items()}
        )
        for row in rows:
            _case(suite, row)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, finding: Finding) -> None:
    name = f"{finding.backend} {finding.dtype} {finding.group}"
    case = ElementTree.SubElement(suite, "testcase", classname=f"parity.{finding.network}", name=name)
    said = f"{sentence(finding)}; worst {finding.worst:.1e}, gate {finding.gate}, compared with {finding.reference}"
    kind = {"differs": "failure", "failed": "error", "reported": "skipped", "alone": "skipped"}.get(finding.verdict)
    if kind is not None:
        ElementTree.SubElement(case, kind, message=said)

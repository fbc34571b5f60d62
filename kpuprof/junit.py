"""Verdicts as JUnit XML, the one report that every CI system shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree


@dataclass(frozen=True)
class Verdict:
    """One check. message: one line; details: more lines, for whoever opens the failure."""

    name: str
    is_held: bool
    message: str
    details: tuple[str, ...] = ()


def junit_xml(suite: str, verdicts: Sequence[Verdict]) -> bytes:
    """A test suite with a test case per verdict; UTF-8, with a declaration."""
    failed = sum(not verdict.is_held for verdict in verdicts)
    counts = {"tests": str(len(verdicts)), "failures": str(failed), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    element = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts, "skipped": "0"})
    for verdict in verdicts:
        named = {"classname": suite, "name": verdict.name, "time": "0"}
        case = ElementTree.SubElement(element, "testcase", named)
        if verdict.is_held:
            ElementTree.SubElement(case, "system-out").text = verdict.message
            continue
        about = {"message": verdict.message, "type": "limit"}
        details = "\n".join(verdict.details)
        ElementTree.SubElement(case, "failure", about).text = details or verdict.message
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f"<?xml version='1.0' encoding='utf-8'?>\n{text}\n".encode()

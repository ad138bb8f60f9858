"""Runs as one HTML page that needs nothing else: no network, no script, no other file."""

from pcgraph.report.page.page import report_page, write_report

__all__ = ["report_page", "write_report"]

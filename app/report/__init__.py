"""The evidence report of a run: one HTML file or one PDF that needs neither this server nor a network."""

from app.report.evidence import Evidence, gather
from app.report.page import report_html
from app.report.pdf import report_pdf

__all__ = ["Evidence", "gather", "report_html", "report_pdf"]

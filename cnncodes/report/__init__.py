"""Pages for people who look: the report on a codes file, and the montage of similar images."""

from __future__ import annotations

from cnncodes.report.making import REPORT, Report, is_report, make_report
from cnncodes.report.montage import is_montage, montage

__all__ = ["REPORT", "Report", "is_montage", "is_report", "make_report", "montage"]

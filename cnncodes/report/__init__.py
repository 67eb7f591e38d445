"""Pages for people who look: the report on a codes file, and the montage of similar images."""

from __future__ import annotations

from cnncodes.report.making import Report, make_report
from cnncodes.report.montage import montage

__all__ = ["Report", "make_report", "montage"]

"""The report of a distillation: from values to a page and its pictures."""

from mixserver.distill.report.page import write_report

__all__ = ["write_report"]

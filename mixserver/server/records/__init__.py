"""What is written about a run: reports per evaluation, lambda at intervals, and plots."""

from mixserver.server.records.recorder import Recorder
from mixserver.server.records.report import Report
from mixserver.server.runs import new_run_folder

__all__ = ["Recorder", "Report", "new_run_folder"]

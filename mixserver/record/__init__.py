"""What is written about a run: reports per evaluation, lambda now and then, and their pictures."""

from mixserver.record.recorder import Recorder
from mixserver.record.report import Report
from mixserver.record.runs import new_run_folder

__all__ = ["Recorder", "Report", "new_run_folder"]

"""What is written about a run: reports per evaluation, lambda now and then, and their pictures."""

from mixserver.record.recorder import Recorder, new_run_folder
from mixserver.record.report import Report

__all__ = ["Recorder", "Report", "new_run_folder"]

"""The `mixserver` command in this process."""

from __future__ import annotations

import subprocess
from pathlib import Path

from click.testing import CliRunner

from mixserver.cli import main


def mixserver_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command here: for what is refused early, and for reading what was made.

    Importing all that the command needs takes longer than the command.
    """
    words = [str(word) for word in arguments]
    done = CliRunner().invoke(main, words, prog_name="mixserver")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

"""`python -m mixserver_worker.training JOB [MESSAGES]`: trains, and tells its progress as JSON.

The messages go to a file if one is named, and otherwise to standard output.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import msgspec

from mixserver.core.errors import MixserverError
from mixserver.wire.training import Failed, TrainingJob, TrainingMessage


def main() -> int:
    """Train; the exit status is 1 if it cannot be done, for which the last line has the reason."""
    out, sys.stdout = sys.stdout, sys.stderr  # libraries print too
    if sys.argv[2:]:
        out = Path(sys.argv[2]).open("w", encoding="utf-8")  # noqa: SIM115

    def tell(message: TrainingMessage) -> None:
        out.write(msgspec.json.encode(message).decode() + "\n")
        out.flush()

    try:
        job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=TrainingJob)
        from mixserver_worker.engines.threads import prepare_torch

        prepare_torch(job.threads)
        from mixserver_worker.engines.mace.model import import_mace

        import_mace()
        import torch

        # e3nn's code for TorchScript leads to a notice for each of its modules
        warnings.filterwarnings("ignore", message="The TorchScript type system")
        torch.set_num_threads(job.threads)
        from mixserver_worker.training.loop import train

        tell(train(job, tell))
    except MixserverError as error:
        tell(Failed(message=str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

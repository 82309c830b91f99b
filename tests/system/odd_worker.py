"""A worker process whose engine misbehaves as the command line says; the worker is the real one.

Usage: odd_worker.py KIND --server ADDRESS [--name NAME] [--slow SECONDS] [--fingerprint HEX]
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import time

import numpy as np
from mixserver_worker.engine import EngineResult
from mixserver_worker.worker import run

from mixserver.core.errors import BadInput, MixserverError
from mixserver.wire.worker import Evaluate, ModelCard


class OddEngine:
    """Springs to the origin; spoilt in one way or another."""

    def __init__(self, kind: str, slow: float, fingerprint: str) -> None:
        self.kind, self.slow = kind, slow
        self.card = ModelCard(engine="odd", name=kind, fingerprint=fingerprint)

    def evaluate(self, job: Evaluate) -> EngineResult:
        if self.slow:
            sys.stdout.write(f"evaluating {job.job}\n")
            sys.stdout.flush()
        if self.kind == "compiled":  # one call that no Python signal handler can interrupt
            # nanosleep is interrupted by signals; a busy loop in C would be too hard on the machine
            until = time.monotonic() + self.slow
            while (left := until - time.monotonic()) > 0:
                ctypes.CDLL(None).usleep(int(1e6 * min(left, 60.0)))
        else:
            time.sleep(self.slow)
        n = len(job.positions)
        forces = -job.positions
        if self.kind == "nan":
            forces[n // 2, 1] = np.nan
        elif self.kind == "short":
            forces = forces[1:]
        elif self.kind == "flat":
            forces = forces.ravel()
        elif self.kind == "raises":
            raise RuntimeError("the GPU is on fire")
        elif self.kind == "picky":
            raise BadInput("element Uue is unknown")
        virial = -job.positions.T @ job.positions
        return EngineResult(0.5 * float((job.positions**2).sum()), forces, virial)

    def close(self) -> None:
        sys.stdout.write("closed\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--server", required=True)
    parser.add_argument("--name", default="")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--fingerprint", default="aa")
    args = parser.parse_args()
    engine = OddEngine(args.kind, args.slow, args.fingerprint)
    try:
        run(engine, server=args.server, role="cheap", name=args.name)
    except MixserverError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()

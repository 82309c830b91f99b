"""i-PI without the parts that a run does not use: fewer modules, the same functions."""

from __future__ import annotations

import subprocess
import sys

from limits import HANG_S

LATER = """
import sys
from mixserver.core.ipi_import import import_ipi

import_ipi()
assert "ipi.engine.simulation" in sys.modules
assert not {"ase.io", "scipy.interpolate", "ipi.scripting"} & set(sys.modules)
import_ipi()  # changes nothing

import numpy as np
import ipi
from ipi.engine.motion import stringmep, vscf

x = np.linspace(0.0, 1.0, 9)
spline = stringmep.make_interp_spline(x, x**3, k=3)
np.testing.assert_allclose(stringmep.splev(0.3, spline), 0.027, atol=1e-12)
assert abs(float(vscf.interp1d(x, x**3, kind="cubic")(0.3)) - 0.027) < 1e-12

import scipy.interpolate
import ipi.scripting

assert scipy.interpolate.BSpline is type(spline)
assert callable(ipi.scripting.InteractiveSimulation)
try:
    ipi.read_output("there is no such file")
except FileNotFoundError:
    pass
else:
    raise AssertionError("the file that is not there was read")
"""
AT_ONCE = """
import sys
import ipi
import scipy.interpolate
from mixserver.core.ipi_import import import_ipi

before = dict(sys.modules)
import_ipi()
assert sys.modules == before
from ipi.engine.motion import stringmep

assert stringmep.splev is scipy.interpolate.splev
"""


def works(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_not_used_is_imported_where_it_is_used() -> None:
    works(LATER)


def test_an_ipi_that_is_imported_already_stays_as_it_is() -> None:
    works(AT_ONCE)

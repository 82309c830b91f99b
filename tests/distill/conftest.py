"""Argon that the toy engine was asked about, once for all tests of this folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from argon import project_in, reference_data

SOFT = (
    "temperatures = [30.0]\natoms = 32\nsnapshots = 14\ntimestep_fs = 5.0\n"
    "equilibration_ps = 0.1\nevery_ps = 0.05\nfriction_fs = 200.0\nstrained = 2\nvacancies = 1\n"
)


@pytest.fixture(scope="session")
def argon_asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe, with all steps before the first fit done. To be copied, not changed.

    The recipe ends with an open table [pair], for keys to be added.
    """
    folder = tmp_path_factory.mktemp("argon-asked")
    project = project_in(folder, soft=SOFT, more="[partition]\nregions = 4\ngroups = 2\n[pair]\n")
    asyncio.run(reference_data(project))
    return folder

"""Packages that cannot be used are refused, in words, when they are loaded."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from limits import HANG_S
from mixserver_worker.engines.nequip import site_energies
from mixserver_worker.engines.nequip.engine import NequipEngine
from mixserver_worker.engines.nequip.package import read_package
from odd_systems import agree, job, system

from mixserver.core.errors import ConfigError

pytestmark = pytest.mark.nequip

PACKAGES = Path(__file__).parent / "packages"
Change = Callable[..., str]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("si.nequip.pt2", "compiled, which hides its site energies"),
        ("si.nequip.pth", "compiled, which hides its site energies"),
        ("last.ckpt", "checkpoint of a training run"),
        ("deployed.pth", "from nequip before 0.7"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match=rf"{message}.*nequip-package build"):
        NequipEngine(str(tmp_path / name), device="cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"this is no package", "incomplete or damaged, or no package"),
    ],
)
def test_files_without_a_package_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "si.nequip.zip"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_package(str(file))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_half_a_package_is_refused(tmp_path: Path, share: float) -> None:
    whole = (PACKAGES / "si_allegro.nequip.zip").read_bytes()
    file = tmp_path / "half.nequip.zip"
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ConfigError, match="incomplete or damaged"):
        read_package(str(file))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot read the package .*no-such\.nequip\.zip"):
        read_package("no-such.nequip.zip")


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.nequip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ConfigError, match="no package of a NequIP or Allegro model"):
        read_package(str(file))


def _with_types(names: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model._metadata["type_names"] = names

    return change


@pytest.mark.parametrize("names", ["Si1", "silicon"])
def test_atom_types_that_are_no_elements_are_refused(changed: Change, names: str) -> None:
    file = changed("si_allegro", _with_types(names))
    with pytest.raises(ConfigError, match=f"atom types of the model changed are {names}; expected"):
        NequipEngine(file, device="cpu")


def test_models_that_need_a_charge_are_refused(changed: Change) -> None:
    def needs_charge(model: Any) -> None:
        model.model_input_fields.append("charge")

    with pytest.raises(ConfigError, match="needs charge of the whole system"):
        NequipEngine(changed("si_allegro", needs_charge), device="cpu")


def test_modules_of_unknown_receptive_field_are_refused(
    changed: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an extension of nequip with long-range forces has them."""
    (tmp_path / "nequip_ewald.py").write_text(
        "import torch\nclass Ewald(torch.nn.Module):\n    def forward(self, data):\n"
        "        return data\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import nequip_ewald  # type: ignore[import-not-found]

    def with_ewald(model: Any) -> None:
        model.model.func.add_module("ewald", nequip_ewald.Ewald())

    with pytest.raises(ConfigError, match=r"modules of unknown receptive field: Ewald.*ase"):
        NequipEngine(changed("si_allegro", with_ewald), device="cpu")


def test_a_layer_that_is_not_recognised_is_noticed_by_its_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The receptive field is too small by one layer."""
    monkeypatch.setattr(site_energies, "_LAYER", "NoSuchLayer")
    monkeypatch.setattr(site_energies, "_LOCAL", "ConvNetLayer")
    file = PACKAGES / "random_nequip.nequip.zip"
    with pytest.raises(ConfigError, match="a chain of atoms with two sites differ"):
        NequipEngine(str(file), device="cpu", threads=1)


def test_fields_that_cannot_be_cut_leave_layers_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = str(PACKAGES / "random_nequip.nequip.zip")
    expected = NequipEngine(file, device="cpu", threads=1).evaluate(job(system("triclinic")))

    def broken(*_: Any) -> None:
        raise ValueError("another kind of field")

    monkeypatch.setattr(site_energies, "_first", broken)
    with caplog.at_level(logging.WARNING, "mixserver.nequip"):
        made = NequipEngine(file, device="cpu", threads=1)
    assert "all of its layers on all atoms" in caplog.text
    agree(made.evaluate(job(system("triclinic"))), expected, room=1e-11)


def test_loading_needs_no_nequip_and_emits_no_warnings(tmp_path: Path) -> None:
    """The code comes with the package: in a process where none of it can be imported."""
    file = tmp_path / "si.nequip.zip"
    shutil.copy(PACKAGES / "si_allegro.nequip.zip", file)
    code = (
        "import sys, numpy as np\n"
        "for name in ('nequip', 'e3nn', 'allegro'): sys.modules[name] = None\n"
        "from mixserver_worker.engines.threads import prepare_torch\n"
        "prepare_torch(1)\n"
        "from mixserver_worker.engines.nequip.engine import NequipEngine\n"
        "from mixserver.wire.worker import Evaluate\n"
        "e = NequipEngine(sys.argv[1], device='cpu', threads=1)\n"
        "e.evaluate(Evaluate(job=1, stream=1, positions=2 * np.eye(3), cell=np.eye(3) * 9,\n"
        "    numbers=np.array([14, 14, 14], np.int32), pbc=(True, True, False)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code, str(file)],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
    )
    assert (done.stdout, done.stderr) == ("", "")

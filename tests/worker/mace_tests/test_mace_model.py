"""Which model files are accepted, and the messages for others."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from limits import HANG_S
from mace_samples import CUTOFF, MODELS, SPECIES, build
from mixserver_worker.engines.mace.engine import MaceEngine
from mixserver_worker.engines.mace.model import head_index, quiet, read_model

from mixserver.core.errors import ConfigError

pytestmark = pytest.mark.mace


def test_the_card_describes_the_model(model_file: Callable[[str], str]) -> None:
    path = model_file("three layers")
    card = MaceEngine(path, device="cpu").card
    assert card.engine == "mace"
    assert card.name == "three-layers"
    assert card.species == SPECIES
    assert card.cutoff == CUTOFF
    assert card.receptive_field == pytest.approx(3 * CUTOFF)
    assert card.weights
    assert card.energies
    assert card.dtype == "float64"
    assert len(card.fingerprint) == 64


def test_the_fingerprint_distinguishes_files_heads_and_precisions(
    model_file: Callable[[str], str],
) -> None:
    two = model_file("two heads")
    settings = [
        (two, {"head": "dft"}),
        (two, {"head": "coupled cluster"}),
        (two, {"head": "dft", "dtype": "float32"}),
        (model_file("one layer"), {}),
    ]
    prints = [MaceEngine(path, device="cpu", **s).card.fingerprint for path, s in settings]
    assert len(set(prints)) == 4
    again = MaceEngine(two, device="cpu", head="dft", dtype="model").card.fingerprint
    assert again == prints[0]


def test_a_file_is_hashed_as_it_is(model_file: Callable[[str], str]) -> None:
    path = model_file("one layer")
    assert read_model(path).sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_several_heads_and_none_chosen_lists_them(model_file: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError, match="2 heads, choose one of them: 'dft', 'coupled cluster'"):
        MaceEngine(model_file("two heads"), device="cpu")


def test_a_head_that_is_not_there_is_named(model_file: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError, match="no head 'pbe'; it has: 'Default'"):
        MaceEngine(model_file("one layer"), device="cpu", head="pbe")
    assert head_index(("Default",), "Default") == 0


def test_a_missing_file_is_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model file .*medium.*mace_mp:NAME"):
        read_model(str(tmp_path / "medium"))
    with pytest.raises(ConfigError, match="no model file"):
        read_model("medium")


@pytest.mark.parametrize("loader", ["mace_mp", "mace_off"])
def test_an_unknown_published_name_lists_the_known_ones(loader: str) -> None:
    with pytest.raises(ConfigError, match=rf"no model {loader}:nonsense; it knows .*medium"):
        read_model(f"{loader}:nonsense")


def test_published_names_are_taken_from_mace_torchs_cache(
    model_file: Callable[[str], str], tmp_path: Path
) -> None:
    """In a process of its own, since mace-torch looks for its cache when imported."""
    cached = {
        "mace_mp:small": "20231210mace128L0_energy_epoch249model",
        "mace_off:small": "MACE-OFF23_small.model",
    }
    (tmp_path / "mace").mkdir()
    for file in cached.values():
        (tmp_path / "mace" / file).write_bytes(Path(model_file("one layer")).read_bytes())
    code = (
        "import sys; from mixserver_worker.engines.mace.model import read_model\n"
        "for name in sys.argv[1:]:\n"
        "    m = read_model(name); print('read', m.name, m.sha256)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *cached],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
    )
    sha256 = read_model(model_file("one layer")).sha256
    read = [line for line in done.stdout.splitlines() if line.startswith("read ")]
    assert read == [f"read {name} {sha256}" for name in cached]


def test_files_that_are_not_pickles_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.model"
    file.write_text("this is no model")
    with pytest.raises(ConfigError, match="is no MACE model that"):
        read_model(str(file))


@pytest.mark.parametrize(
    ("share", "message"),
    [(0.0, "is empty"), (0.3, "incomplete or damaged"), (0.999, "incomplete or damaged")],
)
def test_half_a_file_is_refused_by_name(
    tmp_path: Path, model_file: Callable[[str], str], share: float, message: str
) -> None:
    whole = Path(model_file("one layer")).read_bytes()
    file = tmp_path / "half.model"
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ConfigError, match=message) as caught:
        read_model(str(file))
    assert str(file) in str(caught.value)


def test_a_pointer_to_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pointer.model"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ConfigError, match="Git LFS"):
        read_model(str(file))


def test_a_checkpoint_is_refused(tmp_path: Path) -> None:
    import torch

    file = tmp_path / "run_epoch-7.pt"
    torch.save({"model": {}, "optimizer": {}}, file)
    with pytest.raises(ConfigError, match=r"holds a dict, not a model.*not a checkpoint"):
        read_model(str(file))


def test_a_compiled_model_is_refused(tmp_path: Path) -> None:
    import warnings

    import torch

    file = tmp_path / "model_compiled.model"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(file))
    with pytest.raises(ConfigError, match="is compiled"):
        read_model(str(file))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("PolarMACE", "no finite receptive field"),
        ("MACELES", "no finite receptive field"),
        ("AtomicDipolesMACE", "no energies"),
        ("EnergyDipolesMACE", "dipole readouts"),
    ],
)
def test_models_without_local_energies_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    """By class: the class is what a pickle names, so a subclass of that name will do."""
    import torch
    from mace.modules import models

    disguised = types.new_class(kind, (models.MACE,))
    disguised.__module__ = "mace.modules.models"
    monkeypatch.setattr(models, kind, disguised, raising=False)
    module = build(**MODELS["one layer"])
    module.__class__ = disguised
    file = tmp_path / "other.model"
    with quiet():
        torch.save(module, file)
    with pytest.raises(ConfigError, match=message):
        read_model(str(file))


def test_models_that_need_a_charge_are_refused(tmp_path: Path) -> None:
    import torch

    specs = {
        "total_charge": {
            "type": "continuous",
            "per": "graph",
            "in_dim": 1,
            "emb_dim": 4,
            "use_bias": True,
        }
    }
    file = tmp_path / "charged.model"
    with quiet():
        torch.save(build(layers=1, correlation=1, embedding_specs=specs), file)
    with pytest.raises(ConfigError, match="needs total_charge"):
        read_model(str(file))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "gpu"}, "auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:x"}, "got 'cuda:x'"),
        ({"device": "cuda:99"}, "finds .* CUDA devices"),
        ({"device": "cpu", "dtype": "half"}, "float64, float32 or model, got 'half'"),
        ({"device": "cpu", "skin": -0.1}, "skin must be"),
    ],
)
def test_unavailable_settings_are_refused(
    model_file: Callable[[str], str], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        MaceEngine(model_file("one layer"), **settings)


def test_importing_the_engine_imports_neither_torch_nor_mace() -> None:
    code = "import sys, mixserver_worker.engines.mace.engine\n"
    code += "print({'torch', 'mace', 'ase'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    assert done.stdout.strip() == "set()"


def test_loading_and_evaluating_emit_no_warnings(model_file: Callable[[str], str]) -> None:
    code = (
        "import sys, numpy as np\n"
        "from mixserver_worker.engines.threads import prepare_torch\n"
        "prepare_torch(1)\n"
        "from mixserver_worker.engines.mace.engine import MaceEngine\n"
        "from mixserver.wire.worker import Evaluate\n"
        "e = MaceEngine(sys.argv[1], device='cpu', threads=1)\n"
        "e.evaluate(Evaluate(job=1, stream=1, positions=np.eye(3), cell=np.eye(3) * 9,\n"
        "    numbers=np.array([1, 6, 14], np.int32), pbc=(True, True, False)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code, model_file("two layers")],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
    )
    assert (done.stdout, done.stderr) == ("", "")

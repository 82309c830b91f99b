"""Kernels against the modules of mace that they replace, and the fall-back to these."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from mace_samples import MODELS, build
from mixserver_worker.conformance import Tolerance, check_forces
from mixserver_worker.engines.mace.engine import MaceEngine
from mixserver_worker.engines.mace.model import import_mace
from odd_systems import AGREES, agree, job, system

pytestmark = pytest.mark.mace


@cache
def built(name: str) -> Any:
    return build(**MODELS[name])


@pytest.fixture(scope="module")
def torch() -> Any:
    import_mace()
    return pytest.importorskip("torch")


def same(got: Any, expected: Any) -> None:
    got, expected = got.detach(), expected.detach()
    assert float((got - expected).abs().max()) < AGREES * float(expected.abs().max())


def slopes(torch: Any, output: Any, *inputs: Any) -> tuple[Any, ...]:
    seed = torch.cos(torch.arange(output.numel(), dtype=output.dtype)).view_as(output)
    return torch.autograd.grad(output, inputs, seed)


@pytest.mark.parametrize("name", ["one layer", "two layers", "agnostic product", "nonlinear"])
@pytest.mark.parametrize("layer", [0, -1])
def test_contraction_and_its_gradient(torch: Any, name: str, layer: int) -> None:
    from mixserver_worker.engines.mace.kernels.contraction import ElementContraction

    module = built(name).products[layer].symmetric_contractions
    fast = ElementContraction(module, torch.device("cpu"), torch.float64)
    fast.prepare([0, 2])
    elements = torch.tensor([2, 0, 0, 2, 0])
    kinds = module.contractions[0].weights_max.shape[0]
    shared = kinds == 1
    attributes = torch.nn.functional.one_hot(elements * (not shared), kinds).double()
    x = torch.randn(5, 4, fast.inputs, dtype=torch.float64, requires_grad=True)
    groups = ((0, torch.tensor([1, 2, 4])), (2, torch.tensor([0, 3])))
    got, expected = fast(x, groups), module(x, attributes)
    same(got, expected)
    same(*slopes(torch, got, x), *slopes(torch, expected, x))


@pytest.mark.parametrize("layer", [0, 1])
def test_convolution_and_its_gradient(torch: Any, layer: int) -> None:
    from mixserver_worker.engines.mace.kernels.convolution import Convolution

    product = built("two layers").interactions[layer].conv_tp
    fast = Convolution(product)
    ends = torch.tensor([[3, 1, 4, 4, 0, 2, 1], [0, 0, 0, 2, 2, 3, 3]])

    def random(*shape: int) -> Any:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    features = random(6, product.irreps_in1.dim)
    harmonics, weights = random(7, product.irreps_in2.dim), random(7, product.weight_numel)
    got = fast(features, harmonics, weights, ends)
    expected = torch.zeros_like(got).index_add(
        0, ends[1], product(features[ends[0]], harmonics, weights)
    )
    same(got, expected)
    inputs = (features, harmonics, weights)
    for a, b in zip(slopes(torch, got, *inputs), slopes(torch, expected, *inputs), strict=True):
        same(a, b)


def test_convolution_without_edges(torch: Any) -> None:
    from mixserver_worker.engines.mace.kernels.convolution import Convolution

    product = built("two layers").interactions[1].conv_tp
    none = torch.zeros(2, 0, dtype=torch.long)
    empty = [torch.zeros(0, n).double() for n in (product.irreps_in2.dim, product.weight_numel)]
    got = Convolution(product)(torch.ones(3, product.irreps_in1.dim).double(), *empty, none)
    assert got.shape == (3, product.irreps_out.dim)
    assert not got.any()


@pytest.mark.parametrize("name", ["one layer", "three layers", "density"])
@pytest.mark.parametrize("layer", [0, -1])
@pytest.mark.parametrize("present", [[1], [0, 2], [0, 1, 2]])
def test_skip_connection(torch: Any, name: str, layer: int, present: list[int]) -> None:
    from mixserver_worker.engines.mace.kernels.elements import ElementLinear

    product = built(name).interactions[layer].skip_tp
    fast = ElementLinear(product)
    fast.add_elements(present)
    elements = torch.tensor([present[k % len(present)] for k in range(5)])
    attributes = torch.nn.functional.one_hot(elements, 3).double()
    x = torch.randn(5, product.irreps_in1.dim, dtype=torch.float64, requires_grad=True)
    got, expected = fast(x, attributes), product(x, attributes)
    same(got, expected)
    same(*slopes(torch, got, x), *slopes(torch, expected, x))


@pytest.mark.parametrize("name", ["two layers", "three layers", "density", "attention"])
def test_the_kernels_are_used(engine: Callable[..., MaceEngine], name: str) -> None:
    sites = engine(name).sites
    assert all(sites.contractions)
    for interaction in sites.module.interactions:
        assert type(interaction.conv_tp).__name__ == "Convolution"
        assert type(getattr(interaction, "skip_tp", None)).__name__ in ("ElementLinear", "NoneType")


def test_correlations_above_three_are_evaluated_by_mace(engine: Callable[..., MaceEngine]) -> None:
    made = engine("fourth order")
    assert made.sites.contractions == [None]
    check_forces(made, system("triclinic"), Tolerance(), count=2)


def test_modules_of_another_kind_are_left_alone(torch: Any) -> None:
    from mixserver_worker.engines.mace.kernels import UnsupportedModule
    from mixserver_worker.engines.mace.kernels.contraction import ElementContraction
    from mixserver_worker.engines.mace.kernels.convolution import Convolution
    from mixserver_worker.engines.mace.kernels.elements import ElementLinear

    other = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedModule):
        ElementContraction(other, torch.device("cpu"), torch.float64)
    with pytest.raises(UnsupportedModule):
        Convolution(other)
    with pytest.raises(UnsupportedModule):
        ElementLinear(other)


def test_a_contraction_that_does_not_agree_is_not_used(
    model_file: Callable[[str], str], engine: Callable[..., MaceEngine]
) -> None:
    """As if a module did not compute what its weights define."""
    made = MaceEngine(model_file("two layers"), device="cpu", threads=1)
    fast = made.sites.contractions[0]
    assert fast is not None
    original = type(fast.module).forward
    fast.module.forward = lambda x, y: 1.001 * original(fast.module, x, y)
    atoms = system("triclinic")
    weight = np.linspace(0.0, 1.0, len(atoms))
    made.sites.prepare_kernels(np.array([0, 1, 2]))
    assert made.sites.contractions[0] is None
    assert made.sites.contractions[1] is not None
    agree(made.evaluate(job(atoms, weight)), engine("two layers").evaluate(job(atoms, weight)))

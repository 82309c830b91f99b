"""LAMMPS's lines become i-PI's settings, and every line gets a word."""

from __future__ import annotations

import pytest

from mixserver.core.errors import ConfigError
from mixserver.new_case.translation import Outcome, Translation, translate
from mixserver.wire.lammps_input import InputLine, LammpsState

POTENTIAL = {"pair_style", "pair_coeff"}
RECORDED = {
    "fix",
    "unfix",
    "run",
    "minimize",
    "thermo",
    "dump",
    "compute",
    "min_style",
    "restart",
    "bizarre",
}


def state(text: str, units: str = "metal", groups: dict[str, tuple[int, ...]] | None = None):
    """Three atoms after an input, as a worker reports them."""
    lines, ran = [], False
    for number, line in enumerate(text.strip().splitlines(), 1):
        words = tuple(line.split())
        some = (groups or {}).get(words[2]) if words[0] == "fix" else None
        use = "potential" if words[0] in POTENTIAL else "executed"
        use = "after_run" if ran else "recorded" if words[0] in RECORDED else use
        ran = ran or (words[0] == "run" and words[1] != "0")
        lines.append(InputLine("in", number, line, words, use, some))
    return LammpsState(
        lines=tuple(lines),
        units=units,
        periodic=(True, True, True),
        origin=(0.0, 0.0, 0.0),
        edges=(9.0, 9.0, 9.0),
        tilts=(0.0, 0.0, 0.0),
        positions=((0.0, 0.0, 0.0), (2.5, 0.0, 0.0), (0.0, 2.5, 0.0)),
        velocities=((0.0, 0.0, 0.0),) * 3,
        types=(1, 1, 1),
        ids=(1, 2, 3),
        masses=(28.0855,),
        labels=(),
        bonds=0,
        charged=False,
    )


def outcome(found: Translation, begins: str) -> Outcome:
    return next(one for one in found.outcomes if one.text.startswith(begins))


def test_every_line_has_an_outcome_in_its_order() -> None:
    text = "units metal\nfix 1 all nve\nfix 2 all langevin 300 300 0.2 7\nbizarre 3\nrun 10"
    found = translate(state(text))
    assert [one.text for one in found.outcomes] == text.splitlines()
    assert outcome(found, "bizarre").level == "none"


def test_langevin_dynamics_keep_their_damping_time() -> None:
    found = translate(
        state("timestep 0.002\nfix 1 all nve\nfix 2 all langevin 50 300 0.2 7\nrun 9")
    )
    motion = found.motion
    assert (motion.ensemble, motion.thermostat, motion.temperature) == ("nvt", "langevin", 300.0)
    assert motion.timestep == pytest.approx(2.0)
    assert motion.tau == pytest.approx(200.0)
    assert motion.steps == 9
    assert "NO ramp from 50" in outcome(found, "fix 2").words
    assert "<dynamics mode='nvt'>" in outcome(found, "fix 1").words


def test_nose_hoover_becomes_another_global_thermostat_and_says_so() -> None:
    found = translate(state("fix 1 all nvt temp 600 600 0.1\nrun 5"))
    assert (found.motion.ensemble, found.motion.thermostat) == ("nvt", "svr")
    assert outcome(found, "fix 1").level == "changed"
    assert "velocity rescaling" in outcome(found, "fix 1").words


@pytest.mark.parametrize(
    ("words", "barostat"),
    [
        ("iso 100 100 1", "isotropic"),
        ("aniso 100 100 1", "orthogonal"),
        ("tri 100 100 1", "flexible"),
        ("x 100 100 1 y 100 100 1 z 100 100 1", "orthogonal"),
    ],
)
def test_barostats_by_what_may_change(words: str, barostat: str) -> None:
    motion = translate(state(f"fix 1 all npt temp 300 300 0.1 {words}\nrun 5")).motion
    assert (motion.ensemble, motion.barostat) == ("npt", barostat)
    assert motion.pressure == pytest.approx(0.01)  # 100 bar
    assert motion.barostat_tau == pytest.approx(1000.0)


def test_real_units_are_femtoseconds_and_atmospheres() -> None:
    text = "units real\ntimestep 2\nfix 1 all npt temp 300 300 100 iso 1 1 1000\nrun 5"
    motion = translate(state(text, units="real")).motion
    assert (motion.timestep, motion.tau, motion.barostat_tau) == (2.0, 100.0, 1000.0)
    assert motion.pressure == pytest.approx(1.01325e-4)


@pytest.mark.parametrize("units", ["lj", "electron", "si", "nano"])
def test_other_units_are_refused(units: str) -> None:
    with pytest.raises(ConfigError, match=f"units {units}.*metal and real"):
        translate(state("run 5", units=units))


@pytest.mark.parametrize("style", ["temp/berendsen 300 300 0.1", "nph iso 0 0 1", "deform 1"])
def test_what_i_pi_cannot_do_is_said(style: str) -> None:
    found = translate(state(f"fix 1 all nve\nfix 2 all {style}\nrun 5"))
    assert outcome(found, "fix 2").level == "none"
    assert "i-PI" in outcome(found, "fix 2").words
    assert found.motion.ensemble == "nve"


def test_atoms_outside_the_group_of_the_integrator_are_held() -> None:
    found = translate(state("fix 1 mobile nve\nrun 5", groups={"mobile": (0, 2)}))
    assert found.motion.fixed == (1,)
    found = translate(state("fix 1 all nve\nfix 2 low setforce 0 0 0\nrun 5", groups={"low": (2,)}))
    assert found.motion.fixed == (2,)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("NULL NULL 0", "write 3i+2 of each atom i, from 0, into <fixatoms_dof>"),
        ("0.0 NULL 0", "write 3i, 3i+2 of each atom"),
        ("NULL NULL 1.5", "i-PI sets no forces"),
        ("v_x 0 0", "i-PI sets no forces"),
    ],
)
def test_a_force_that_is_set_on_some_components_is_told(values: str, said: str) -> None:
    found = translate(
        state(f"fix 1 all nve\nfix 2 low setforce {values}\nrun 5", groups={"low": (2,)})
    )
    assert outcome(found, "fix 2").level == "none"
    assert said in outcome(found, "fix 2").words
    assert not found.motion.fixed


@pytest.mark.parametrize(
    "text",
    [
        "fix 1 a setforce 0 0 0\nfix 2 b nve\nrun 5",
        "fix 2 b nve\nfix 1 a setforce 0 0 0\nrun 5",
    ],
)
def test_all_atoms_that_anything_holds_are_fixed(text: str) -> None:
    assert translate(state(text, groups={"a": (2,), "b": (1, 2)})).motion.fixed == (0, 2)


def test_a_thermostat_on_some_atoms_is_said_to_act_on_all() -> None:
    text = "fix 1 all nve\nfix 2 edge langevin 300 300 0.1 7\nrun 5"
    said = outcome(translate(state(text, groups={"edge": (0,)})), "fix 2")
    assert said.level == "changed"
    assert "ALL atoms that move, not on the group edge" in said.words
    held = text.replace("1 all", "1 edge")
    assert outcome(translate(state(held, groups={"edge": (0,)})), "fix 2").level == "kept"


@pytest.mark.parametrize("first", ["all nvt temp 300 300 0.1", "b langevin 600 600 0.1 7"])
def test_thermostats_that_differ_are_refused(first: str) -> None:
    text = f"fix 0 all nve\nfix 1 {first}\nfix 2 a langevin 300 300 0.1 7\nrun 5"
    text = text.removeprefix("fix 0 all nve\n") if "nvt" in first else text
    with pytest.raises(ConfigError, match=r"several thermostats: 1 .*, 2 .*leave one"):
        translate(state(text, groups={"a": (0,), "b": (1, 2)}))


def test_equal_thermostats_are_one_however_their_numbers_are_written() -> None:
    text = "fix 0 all nve\nfix 1 a langevin 300 300 0.1 7\nfix 2 b langevin 300.0 3e2 .1 8\nrun 5"
    found = translate(state(text, groups={"a": (0,), "b": (1, 2)}))
    assert found.motion.temperature == 300.0


def test_only_the_first_run_counts() -> None:
    found = translate(
        state("fix 1 all nve\nrun 0\nrun 7\nunfix 1\nfix 2 all nvt temp 1 1 1\nrun 9")
    )
    assert (found.motion.ensemble, found.motion.steps) == ("nve", 7)
    assert "first run" in outcome(found, "run 9").words


def test_an_unfixed_fix_does_not_count() -> None:
    found = translate(state("fix 1 all nvt temp 300 300 0.1\nunfix 1\nfix 2 all nve\nrun 5"))
    assert found.motion.ensemble == "nve"
    assert "unfixed" in outcome(found, "fix 1").words


def test_a_minimisation_alone_is_a_geometry_optimisation() -> None:
    found = translate(state("min_style cg\nminimize 1e-10 1e-4 500 1000"))
    motion = found.motion
    assert (motion.ensemble, motion.optimiser, motion.steps) == ("minimize", "cg", 500)
    assert motion.force_tolerance == pytest.approx(1e-4)
    followed = translate(state("minimize 1e-10 1e-4 500 1000\nfix 1 all nve\nrun 3"))
    assert followed.motion.ensemble == "nve"
    assert "NOT done" in outcome(followed, "minimize").words


def test_intervals_of_output() -> None:
    motion = translate(state("thermo 5\ndump 1 all custom 40 f id x\nrestart 60 r\nrun 5")).motion
    assert (motion.every, motion.frames_every, motion.checkpoint_every) == (5, 40, 60)


def test_rare_lines_of_properties_become_more_frequent_and_that_is_said() -> None:
    found = translate(state("thermo 100\nrun 50"))
    assert found.motion.every == 10
    said = [one.words for one in found.outcomes if one.text.startswith("thermo")]
    assert len(said) == 1
    assert said[0].startswith("<properties stride='10'>, not 100")


def test_an_input_that_integrates_nothing_is_completed_in_words() -> None:
    found = translate(state("units metal"))
    assert found.motion.ensemble == "nvt"
    assert len(found.assumed) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fix 1 all nve\nfix 2 all nvt temp 1 1 1\nrun 5", "several fixes integrate"),
        ("fix 1 all nvt temp 300\nrun 5", "a number or word is missing"),
        ("fix 1 all npt temp 300 300 0.1 x 0 0 1\nrun 5", "barostats apply one pressure"),
    ],
)
def test_contradictions_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        translate(state(text))

"""mix.toml: what is wrong with it is said in one line, with the cure."""

from pathlib import Path

import pytest

from mixserver.config import AtomSeeds, load_case
from mixserver.config.load import parse
from mixserver.core.errors import ConfigError

GOOD = """
[upstream]
address = "unix:mixing"
structure = "init.xyz"

[region]
core_radius = 6.0
blend_width = 4.0
[region.seeds]
kind = "atoms"
indices = [1, 2]

[models.cheap]
[models.expensive]

[[local]]
role = "cheap"
command = ["toy"]
"""


MINIMAL = Path(__file__).parents[2] / "inputs/minimal/mix.toml"


def test_a_good_file_becomes_typed_values() -> None:
    config = parse(GOOD)
    assert config.region is not None
    assert config.region.seeds == AtomSeeds(indices=(1, 2))
    assert config.region.buffer_width == "exact"
    assert config.local[0].command == ("toy",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "blend_width",
            "blend_widht",
            "region.blend_widht is not a setting; did you mean region.blend_width?",
        ),
        ("[upstream]", "[upstraem]", "upstraem is not a setting; did you mean upstream?"),
        ("indices = [1, 2]", "indizes = [1, 2]", "region.seeds.indizes is not a setting"),
        ("indices = [1, 2]", "indices = [1, 'a']", "region.seeds.indices"),
        (
            "core_radius = 6.0",
            "core_radius = true",
            "region.core_radius: expected a number, got true",
        ),
        ("core_radius = 6.0", "core_radius = -1", "region.core_radius must be at least 0, got -1"),
        ("core_radius = 6.0\n", "", "region.core_radius is missing: Å around every seed"),
        (
            'structure = "init.xyz"\n',
            "",
            "upstream.structure is missing: File with the atoms",
        ),
        (
            '[upstream]\naddress = "unix:mixing"\nstructure = "init.xyz"\n',
            "",
            "upstream is missing: Where i-PI",
        ),
        (
            "[models.cheap]",
            '[mixing]\nkind = "force"\n[workers]\nclients = "unix:c"\n'
            'clients_geometry = "as_sent"\n[models.cheap]',
            "workers.clients_geometry = 'as_sent' is for pass-through",
        ),
        ('kind = "atoms"\n', "", "region.seeds.kind is missing; it is one of 'atoms', 'species'"),
        (
            "indices = [1, 2]",
            "indices = 7",
            "region.seeds.indices: expected a list, got 7: write [7]",
        ),
        (
            'command = ["toy"]',
            'command = "toy --cutoff 7"',
            'local[0].command: expected a list, got "toy --cutoff 7": write ["toy",',
        ),
        (
            'role = "cheap"',
            'role = "dear"',
            "local[0].role: Invalid value 'dear'; it is one of 'cheap', 'expensive'",
        ),
        ('command = ["toy"]', 'comand = ["toy"]', "did you mean local[0].command?"),
        (
            "core_radius = 6.0",
            'core_radius = 6.0\nbuffer_width = "thick"',
            "region.buffer_width: Invalid value 'thick'; it is 'exact' or a number",
        ),
        (
            'kind = "atoms"',
            'kind = "atom"',
            "region.seeds.kind: Invalid value 'atom'; it is one of 'atoms', 'species', 'sphere', "
            "'slab', 'cylinder', 'criterion'",
        ),
        (
            "core_radius = 6.0",
            'core_radius = 6.0\nprofile = "step"',
            "region.profile: Invalid value 'step'; it is one of 'linear', 'cubic', 'quintic'",
        ),
        ("indices = [1, 2]", "indices = []", "region.seeds.indices is empty"),
        (
            'kind = "atoms"\nindices = [1, 2]',
            'kind = "species"\nelements = []',
            "region.seeds.elements is empty",
        ),
        (
            "[models.cheap]",
            '[models.cheap]\nsha256 = "ab"',
            "models.cheap.sha256 is not a setting",
        ),
        ("[models.cheap]", "[models.cheap]\ncutoff = 5.0", "models.cheap.cutoff is not a setting"),
        (
            "[models.cheap]",
            "[workers]\nfirst_worker_s = 0.0\n[models.cheap]",
            "workers.first_worker_s must be above 0, got 0.0",
        ),
        ("[models.expensive]", "", "[region] needs both"),
        (
            'role = "cheap"\ncommand = ["toy"]',
            'role = "cheap"\ncommand = []',
            "local[0].command is empty: name at least one",
        ),
        ("[region]", "[region", "is not valid TOML"),
        ("[models.cheap]", "[workers]\npatience_s = 1.0\n[models.cheap]", "at least twice"),
        ("[models.cheap]", "[models.cheap]\nmax_sites = 5", "models.cheap.max_sites is not"),
        (
            "[models.expensive]",
            "[models.expensive]\nmax_sites = 5\nmin_sites = 6",
            "models.expensive.min_sites = 6 is more than models.expensive.max_sites = 5",
        ),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("every = 5\nsamples = 6", "raise region.seeds.every"),
        ("low = 2.0\nhigh = 1.0", "low = 2.0 is above high = 1.0"),
        ("every = 0", "every must be at least 1, got 0"),
    ],
)
def test_contradictions_of_a_criterion_are_said(seeds: str, said: str) -> None:
    text = GOOD.replace(
        'kind = "atoms"\nindices = [1, 2]', f'kind = "criterion"\ncompute = "x"\n{seeds}'
    )
    with pytest.raises(ConfigError, match=said):
        parse(text)


def test_two_models_without_a_region_are_refused() -> None:
    text = GOOD[: GOOD.index("[region]")] + GOOD[GOOD.index("[models.cheap]") :]
    with pytest.raises(ConfigError, match="two models but no"):
        parse(text)


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no mix\.toml"):
        load_case(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no file or folder .*mix2\.toml"):
        load_case(tmp_path / "mix2.toml")


def test_a_case_is_a_folder_or_its_file(tmp_path: Path) -> None:
    (tmp_path / "mix.toml").write_text(GOOD)
    assert load_case(tmp_path) == load_case(tmp_path / "mix.toml")
    assert load_case(tmp_path).structure == tmp_path / "init.xyz"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("vacancy/init.xyz", "vacancy/init.xyz is no mix.toml; give its folder, {0}/vacancy"),
        ("vacancy/input.xml", "vacancy/input.xml is no mix.toml; give its folder, {0}/vacancy"),
        ("vacancy/a.model", "is not UTF-8 text: .*; give its folder, {0}/vacancy"),
        ("lone.xyz", "lone.xyz is no mix.toml; give a mix.toml or its folder"),
        ("vacnacy", "no file or folder {0}/vacnacy; did you mean {0}/vacancy"),
        ("xyz", "no file or folder {0}/xyz; give a folder with a mix.toml"),
        ("", "{0} has no mix.toml; folders in it that have one: {0}/vacancy$"),
        ("tin", "tin has no mix.toml, but a distill.toml .mixserver distill {0}/tin"),
        ("empty", "{0}/empty has no mix.toml; give a folder .* `mixserver new` makes a case"),
    ],
)
def test_what_is_no_case_is_told_with_what_may_be_meant(
    tmp_path: Path, given: str, said: str
) -> None:
    for name in ("vacancy/mix.toml", "vacancy/init.xyz", "lone.xyz", "tin/distill.toml", "empty/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("3\nsilicon\n")
    (tmp_path / "vacancy/input.xml").write_text("<simulation/>")
    (tmp_path / "vacancy/a.model").write_bytes(b"PK\xff\xfe")
    with pytest.raises(ConfigError, match=said.format(tmp_path)):
        load_case(tmp_path / given)


@pytest.mark.parametrize(
    ("address", "door", "shared"),
    [
        ("unix:minimal", None, ()),
        ("unix:/tmp/minimal", None, ("unix:/tmp/minimal",)),
        ("127.0.0.1:31415", None, ("127.0.0.1:31415",)),
        ("unix:minimal", "tcp://127.0.0.1:0", ()),
        ("unix:minimal", "tcp://127.0.0.1:5555", ("tcp://127.0.0.1:5555",)),
        ("unix:minimal", "ipc:///tmp/door", ("ipc:///tmp/door",)),
    ],
)
def test_addresses_that_two_runs_cannot_use_at_once_are_known(
    tmp_path: Path, address: str, door: str | None, shared: tuple[str, ...]
) -> None:
    text = MINIMAL.read_text().replace("unix:minimal", address)
    (tmp_path / "mix.toml").write_text(text)
    assert load_case(tmp_path).with_workers_at(door).shared_addresses == shared


def test_an_address_and_keys_from_outside_are_validated_like_those_of_the_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "mix.toml").write_text(GOOD)
    case = load_case(tmp_path)
    assert case.with_workers_at(None) is case
    assert case.with_workers_at("ipc:///run/door").config.workers.door == "ipc:///run/door"
    with pytest.raises(
        ConfigError, match=r"with workers at tcp://0\.0\.0\.0:5555: .*mixserver keys"
    ):
        case.with_workers_at("tcp://0.0.0.0:5555")
    workers = case.with_workers_at("tcp://0.0.0.0:5555", tmp_path).config.workers
    assert workers.keys == str(tmp_path)
    assert case.without_local_workers().config.local == ()

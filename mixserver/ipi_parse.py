"""An i-PI input as i-PI's own parser understands it, and its complaints in words.

i-PI prints, and ends the program where it is lost; here both become a ConfigError. Nothing is
started: no socket, no output file, no force field. It reads arrays from files where it runs, so the
current folder is the input's for that moment.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import traceback
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mixserver.errors import ConfigError

_NAMED: Final = re.compile(r"^(Tag|Attribute) name '([^']*)' is not a recognized .* '([^']*)'")


def parsed(file: Path) -> Any:
    """An i-PI input or RESTART as i-PI's own ``InputSimulation``.

    Raises:
        ConfigError: i-PI would refuse it; its complaint, and what may have been meant.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    return _parsed(os.fspath(file.absolute()), status.st_mtime_ns, status.st_size)[0]


def tree(file: Path) -> tuple[Any, Any]:
    """An i-PI input as ``InputSimulation``, and the XML that it was made from.

    Raises:
        ConfigError: as `parsed`.
    """
    simulation = parsed(file)
    status = file.stat()
    key = (os.fspath(file.absolute()), status.st_mtime_ns, status.st_size)
    return simulation, _parsed(*key)[1]


def expanded(template: Any, folder: Path) -> Iterator[tuple[Any, Any]]:
    """The systems that a <system_template> stands for, by i-PI's own rule of substitution.

    Args:
        template: i-PI's ``InputSysTemplate``.
        folder: where i-PI runs: files of arrays are relative to it.

    Yields:
        The XML and i-PI's ``InputSystem`` of each <instance>.

    Raises:
        ConfigError: an <instance> has another length than <labels>, or what comes of it is no
            system.
    """
    yield from _expanded(template, folder)


@lru_cache(maxsize=4)
def _expanded(template: Any, folder: Path) -> tuple[tuple[Any, Any], ...]:
    """The systems of a template; each takes i-PI a tenth of a second, and all look at each."""
    from ipi.inputs.system import InputSystem  # noqa: PLC0415 - heavy
    from ipi.utils.io.inputs.io_xml import xml_parse_string  # noqa: PLC0415

    text, labels = template.template.fetch(), template.labels.fetch()
    found = []
    for name, instance in template.extra:
        if name != "instance":
            continue
        with spoken("a <system_template>"), contextlib.chdir(folder):
            node = xml_parse_string(substituted(text, labels, instance.fetch())).fields[0][1]
            system = InputSystem()
            system.parse(node)
        found.append((node, system))
    return tuple(found)


def substituted(text: str, labels: Any, values: Any) -> str:
    """The text of a template with its labels replaced, as i-PI does it.

    Raises:
        ConfigError: not as many values as labels.
    """
    if len(labels) != len(values):
        raise ConfigError(
            f"a <system_template> has {len(labels)} <labels> ({', '.join(labels)}) but an "
            f"<instance> of {len(values)} ({', '.join(values)}); give one value for each label"
        )
    for label, value in sorted(zip(labels, values, strict=True), reverse=True):
        text = text.replace(label, value)
    return text


@contextlib.contextmanager
def spoken(what: str) -> Iterator[None]:
    """Silence i-PI, and turn whatever it raises into a ConfigError about `what`.

    Raises:
        ConfigError: i-PI raised anything, or wanted to end the program.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # i-PI leaves files for the interpreter to close
            yield
    except ConfigError as error:
        _close_files(error)
        raise
    except (Exception, SystemExit) as error:  # i-PI raises anything, and exits
        printed = said.getvalue().strip().splitlines()
        if isinstance(error, SystemExit):
            words = " ".join(printed[-4:])
            _undo_exit()
        else:
            words = str(error) or type(error).__name__
        if isinstance(error, KeyError):
            words = f"{words} is not known to it"
        words = f"{' '.join(words.split())}{_meant(error, words)}"
        _close_files(error)
        raise ConfigError(f"{what}: i-PI does not accept it: {words}") from error


def _close_files(error: BaseException) -> None:
    """Close what i-PI left open where it raised."""
    for one in (error.__cause__, error.__context__, error):
        for frame, _ in traceback.walk_tb(one.__traceback__ if one is not None else None):
            if str(frame.f_globals.get("__name__", "")).startswith("ipi."):
                for value in frame.f_locals.values():
                    if isinstance(value, io.IOBase):
                        value.close()


def _undo_exit() -> None:
    """Have i-PI forget that it wanted to end this program."""
    from ipi.utils.softexit import softexit  # noqa: PLC0415 - heavy

    softexit.reset()


@lru_cache(maxsize=4)
def _parsed(file: str, changed: int, size: int) -> tuple[Any, Any]:
    from ipi.inputs.simulation import InputSimulation  # noqa: PLC0415 - heavy
    from ipi.utils.io.inputs.io_xml import xml_parse_file  # noqa: PLC0415

    with spoken(f"i-PI's input {file}"), contextlib.chdir(Path(file).parent):
        with open(file, encoding="utf-8") as handle:
            tree = xml_parse_file(handle).fields[0][1]
        if tree.name != "simulation":
            raise ConfigError(
                f"i-PI's input {file} begins with <{tree.name}>; i-PI wants <simulation>"
            )
        simulation = InputSimulation()
        simulation.parse(tree)
    return simulation, tree


def _meant(error: BaseException, words: str) -> str:
    """What of i-PI's own names is near the one that it does not know."""
    found = _NAMED.match(words)
    parser = _parser(error.__traceback__)
    if found is None or parser is None:
        return ""
    kind, name, _ = found.groups()
    known = (
        set(parser.attribs) if kind == "Attribute" else {*parser.instancefields, *parser.dynamic}
    )
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    shown = [f"<{n}>" if kind == "Tag" else n for n in near or sorted(known)]
    if not shown:
        return ""
    return f"; did you mean {' or '.join(shown)}?" if near else f"; it knows {', '.join(shown)}"


def _parser(trace: TracebackType | None) -> Any:
    """The innermost of i-PI's objects that was parsing when it raised."""
    from ipi.utils.inputvalue import Input  # noqa: PLC0415 - heavy

    found = None
    while trace is not None:
        one = trace.tb_frame.f_locals.get("self")
        if isinstance(one, Input):
            found = one
        trace = trace.tb_next
    return found

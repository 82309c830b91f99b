"""An i-PI input as parsed by i-PI itself, with its errors as ConfigErrors.

i-PI prints, and ends the program on errors; here both become a ConfigError. Nothing is
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

from mixserver.core.errors import ConfigError
from mixserver.core.ipi_import import import_ipi

_NAMED: Final = re.compile(r"^(Tag|Attribute) name '([^']*)' is not a recognized .* '([^']*)'")


def parse_input(file: Path) -> Any:
    """An i-PI input or RESTART as i-PI's own ``InputSimulation``.

    Raises:
        ConfigError: i-PI would refuse it; with its message, and the likely intention.
    """
    return parse_with_xml(file)[0]


def parse_with_xml(file: Path) -> tuple[Any, Any]:
    """An i-PI input as ``InputSimulation``, and the XML that it was made from.

    Raises:
        ConfigError: as `parse_input`.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    return _parsed(os.fspath(file.absolute()), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def expand_template(template: Any, folder: Path) -> tuple[tuple[Any, Any], ...]:
    """The systems that a <system_template> stands for, by i-PI's own rule of substitution.

    Each takes i-PI a tenth of a second, so they are kept.

    Args:
        template: i-PI's ``InputSysTemplate``.
        folder: where i-PI runs: files of arrays are relative to it.

    Returns:
        The XML and i-PI's ``InputSystem`` of each <instance>.

    Raises:
        ConfigError: an <instance> has another length than <labels>, or the result is not a
            system.
    """
    from ipi.inputs.system import InputSystem  # noqa: PLC0415 - heavy
    from ipi.utils.io.inputs.io_xml import xml_parse_string  # noqa: PLC0415

    text, labels = template.template.fetch(), template.labels.fetch()
    found = []
    for name, instance in template.extra:
        if name != "instance":
            continue
        with ipi_errors_as_config_errors("a <system_template>"), contextlib.chdir(folder):
            node = xml_parse_string(substitute_labels(text, labels, instance.fetch())).fields[0][1]
            system = InputSystem()
            system.parse(node)
        found.append((node, system))
    return tuple(found)


def substitute_labels(text: str, labels: Any, values: Any) -> str:
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
def ipi_errors_as_config_errors(what: str) -> Iterator[None]:
    """Silence i-PI, and turn its errors and exits into a ConfigError about `what`.

    Raises:
        ConfigError: i-PI raised an exception, or exited.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # i-PI leaves files for the interpreter to close
            yield
    except ConfigError as error:
        _close_files(error)
        raise
    except (Exception, SystemExit) as error:  # i-PI raises exceptions of any kind, and exits
        printed = output.getvalue().strip().splitlines()
        if isinstance(error, SystemExit):
            from ipi.utils.softexit import softexit  # noqa: PLC0415 - heavy

            words = " ".join(printed[-4:])
            softexit.reset()  # i-PI's request to end this program
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


@lru_cache(maxsize=4)
def _parsed(file: str, changed: int, size: int) -> tuple[Any, Any]:
    import_ipi()
    from ipi.inputs.simulation import InputSimulation  # noqa: PLC0415 - heavy
    from ipi.utils.io.inputs.io_xml import xml_parse_file  # noqa: PLC0415

    with ipi_errors_as_config_errors(f"i-PI's input {file}"), contextlib.chdir(Path(file).parent):
        with open(file, encoding="utf-8") as handle:
            xml = xml_parse_file(handle).fields[0][1]
        if xml.name != "simulation":
            raise ConfigError(
                f"i-PI's input {file} begins with <{xml.name}>; i-PI wants <simulation>"
            )
        simulation = InputSimulation()
        simulation.parse(xml)
    return simulation, xml


def _meant(error: BaseException, words: str) -> str:
    """A hint at i-PI's own names that are similar to an unknown one."""
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

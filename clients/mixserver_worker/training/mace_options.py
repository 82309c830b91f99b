"""Options of an expert in the terms of mace_run_train, parsed and checked by mace-torch itself."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Mapping
from typing import Any, Final

from mixserver.core.errors import ConfigError
from mixserver.wire.training import TrainingJob

_OURS: Final = {
    "name": "name", "work_dir": "folder", "seed": "seed", "device": "device",
    "default_dtype": "dtype", "train_file": "data", "valid_file": "validation",
    "valid_fraction": "validation", "E0s": "e0s", "energy_key": "keys", "forces_key": "keys",
    "stress_key": "keys", "max_num_epochs": "epochs", "swa": "stage_two",
    "stage_two": "stage_two", "start_swa": "stage_two", "start_stage_two": "stage_two",
    "patience": "patience", "restart_latest": "checkpoint", "config": "options",
}  # fmt: skip
"""Options that the recipe sets elsewhere: by which key."""
_NOT_HERE: Final = (
    "foundation_model", "multiheads_finetuning", "heads", "pt_train_file", "distributed", "lbfgs",
    "wandb", "lora", "enable_cueq", "enable_oeq", "only_cueq", "statistics_file", "test_file",
    "test_dir", "dry_run", "launcher", "embedding_specs",
)  # fmt: skip
_MODELS: Final = ("MACE", "ScaleShiftMACE")
_LOSSES: Final = ("weighted", "stress", "huber", "universal", "l1l2energyforces", "forces_only")


def mace_arguments(job: TrainingJob, expert: str, options: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments of mace_run_train for an expert ("large" or "small").

    Raises:
        ConfigError: an option is unknown, of the wrong kind, set elsewhere or not possible here.
    """
    from mace import tools

    for name in options:
        if name in _OURS:
            raise ConfigError(
                f"[{expert}.options] has {name}, which the recipe sets for both experts: by its "
                f"key {_OURS[name]!r}"
            )
        if name in _NOT_HERE:
            raise ConfigError(
                f"[{expert}.options] has {name}, which training two experts cannot use: leave it "
                "out"
            )
    words = [f"--name={expert}", f"--seed={job.seed}", f"--max_num_epochs={job.epochs}"]
    words += [f"--default_dtype={job.dtype}", "--device=cpu", "--E0s=average"]
    if job.stage_two:
        words += ["--swa", f"--start_swa={job.stage_two}"]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            parser = tools.build_default_arg_parser()
            words += [word for item in options.items() for word in _words(parser, *item)]
            parsed = parser.parse_args(words)
            arguments: argparse.Namespace = tools.check_args(parsed)[0]
    except (SystemExit, AssertionError, ValueError) as error:
        why = told.getvalue().strip().splitlines()[-1:] or [str(error)]
        raise ConfigError(f"[{expert}.options]: mace_run_train refuses them: {why[0]}") from error
    _check(arguments, expert)
    return arguments


def _words(parser: argparse.ArgumentParser, name: str, value: object) -> list[str]:
    known = {word: action for action in parser._actions for word in action.option_strings}
    action = known.get(f"--{name}")
    if action is not None and action.nargs == 0:  # a flag: there or not
        if not isinstance(value, bool):
            raise ValueError(f"{name} is true or false, got {value!r}")
        return [f"--{name}"] if value else []
    if isinstance(value, list | tuple):
        value = f"[{','.join(str(one) for one in value)}]"
    return [f"--{name}={value}"]


def _check(arguments: argparse.Namespace, expert: str) -> None:
    if arguments.model not in _MODELS:
        raise ConfigError(
            f"[{expert}.options]: model = {arguments.model!r}, expected {' or '.join(_MODELS)}: "
            "others have no site energies of finite reach"
        )
    if arguments.loss not in _LOSSES:
        raise ConfigError(
            f"[{expert}.options]: loss = {arguments.loss!r}, expected one of {', '.join(_LOSSES)}"
        )

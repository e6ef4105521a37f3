"""The command line as it was given, for records that say how a run was started."""

from __future__ import annotations

import shlex

import typer


def command_line(context: typer.Context) -> str:
    """The command with what was given, in the order of its help and quoted for a shell; options left at their defaults are not in it."""
    words = context.command_path.split()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name or ""]
        for each in value if isinstance(value, list | tuple) else [value]:
            if parameter.param_type_name == "option":
                words.append(max(parameter.opts, key=len))
            if each is not True:
                words.append(str(each))
    return shlex.join(words)

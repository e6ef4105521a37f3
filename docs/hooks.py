"""What the documentation site takes from the program itself: a page for every command, with its options as the command line knows them.

mkdocs calls the `on_*` functions. A page `docs/commands/<command>.md` may say more in its own words; the line OPTIONS in it is where usage,
options and examples go. A command without a page gets one. Links into the repository outside `docs/` become plain paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OPTIONS = "<!-- options -->"
FOLDER = "commands"
SECTION = "Commands"
ROOT = Path(__file__).resolve().parents[1]
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)[^)]*\)")


def command_names() -> list[str]:
    """Every command a page is for: "run", "plan" ...; groups count once."""
    return list(_application().commands)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts every command under "Commands", in the order in which the program lists them, behind the pages that mkdocs.yml names there."""
    for entry in config.nav or []:
        if isinstance(entry, dict) and SECTION in entry:
            entry[SECTION] += [{name: f"{FOLDER}/{name}.md"} for name in command_names()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each command that has none."""
    for name in command_names():
        uri = f"{FOLDER}/{name}.md"
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, content=f"# `selfteach {name}`\n\n{OPTIONS}\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Writes options where the page asks for them, and links to files outside the site as paths."""
    uri = page.file.src_uri
    if uri.startswith(f"{FOLDER}/") and OPTIONS in markdown:
        name = Path(uri).stem
        command = _application().commands.get(name)
        if command is None:
            raise PluginError(f"{uri}: there is no command {name!r}")
        markdown = markdown.replace(OPTIONS, "\n".join(reference(name, command)))
    return _OUTSIDE.sub(lambda link: _path(link, uri), markdown)


def reference(name: str, command: Any) -> Iterator[str]:
    """Usage, arguments, options and examples of a command, or of each command of a group, in Markdown."""
    if hasattr(command, "commands"):
        yield command.help or ""
        for part, inner in command.commands.items():
            yield f"\n## `{name} {part}`\n"
            yield from reference(f"{name} {part}", inner)
        return
    context = typer.Context(command, info_name=f"selfteach {name}")
    yield command.help or ""
    yield f"\n```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    rows = [record for each in command.params if (record := each.get_help_record(context))]
    if rows:
        yield "| option | |"
        yield "|---|---|"
        yield from (f"| `{_cell(signature)}` | {_escaped(_cell(told))} |" for signature, told in rows)
    yield ""
    yield from _examples(command.epilog or "")


def _application() -> Any:
    # As wide as it likes: usage lines are not to be broken by the terminal that happens to build the site.
    os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = "200"
    from harness.cli.app import app

    return typer.main.get_command(app)


def _examples(epilog: str) -> Iterator[str]:
    """The epilog's paragraphs; commands as they are typed."""
    code: list[str] = []
    for paragraph in [*epilog.split("\n\n"), ""]:
        if paragraph.startswith("  "):
            code.append(paragraph.strip())
            continue
        if code:
            yield "```text\n" + "\n".join(code) + "\n```\n"
            code = []
        if paragraph:
            yield re.sub(r"\bdocs/([\w-]+)\.md\b", r"[\1](../\1.md)", paragraph) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text whose angle brackets, underscores and stars are meant as they stand; code stays code."""
    parts = text.split("`")
    return "`".join(re.sub(r"([_*\[\]])", r"\\\1", part).replace("<", "&lt;") if at % 2 == 0 else part for at, part in enumerate(parts))


def _path(link: re.Match[str], uri: str) -> str:
    """A link of a page as text, if it leads out of the site; as it is, if it stays inside."""
    docs = ROOT / "docs"
    target = (docs / uri).parent.joinpath(link[2]).resolve()
    if target.is_relative_to(docs):
        return link[0]
    if not target.exists():
        raise PluginError(f"{uri}: {link[2]} does not exist")
    text, path = link[1].strip("`"), target.relative_to(ROOT).as_posix()
    return f"`{path}`" if path.endswith(text) or text.endswith(path) else f"{link[1]} (`{path}`)"

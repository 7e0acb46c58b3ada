"""The command completion."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell_name", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
def completion_(shell_name: str) -> None:
    """Print a script that lets a shell complete commands and names.

    \b
    bash  harness completion bash >~/.local/share/bash-completion/completions/harness
    zsh   harness completion zsh >~/.zfunc/_harness       (a folder of $fpath)
    fish  harness completion fish >~/.config/fish/completions/harness.fish
    """
    shells = click.shell_completion.get_completion_class(shell_name)
    assert shells
    command = click.get_current_context().find_root().command
    click.echo(shells(command, {}, "harness", "_HARNESS_COMPLETE").source())

"""`edgefel completion`."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script by which a shell completes edgefel's commands, options, files and names with Tab.

    bash needs version 4.4 or newer, and the package bash-completion for a file in the folder below.

    \b
    Examples, for new shells:
      edgefel completion bash > ~/.local/share/bash-completion/completions/edgefel
      edgefel completion zsh > "${fpath[1]}/_edgefel"
      edgefel completion fish > ~/.config/fish/completions/edgefel.fish

    \b
    For this shell alone:
      source <(edgefel completion bash)
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, "edgefel", "_EDGEFEL_COMPLETE").source())

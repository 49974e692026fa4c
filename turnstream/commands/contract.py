"""``turnstream contract``: the generated documents of the contract, written or checked."""

from pathlib import Path
from typing import Annotated

import typer

from turnstream.contract_docs.documents import ContractState, contract_state, write_documents
from turnstream.contract_docs.example_files import EXAMPLES

Root = Annotated[Path, typer.Option("--root", help="The checkout.", file_okay=False, exists=True)]


def register(app: typer.Typer) -> None:
    """Add the ``contract`` commands to ``app``."""
    contract = typer.Typer(no_args_is_help=True, help="JSON Schema, AsyncAPI and docs/events.md, from the models.")
    contract.command()(generate)
    contract.command()(check)
    app.add_typer(contract, name="contract")


def generate(
    root: Root = Path(),
    *,
    accept_breaking: Annotated[
        bool, typer.Option("--accept-breaking", help="Write although old records or readers will break.")
    ] = False,
) -> None:
    """Write the documents that are stale. Refuses a breaking change: a changed event is a new topic version."""
    state = _state(root)
    if state.breaking and not accept_breaking:
        _tell(*(f"breaking: {change}" for change in state.breaking))
        _tell("Nothing written. Give the changed event a new topic version, or pass --accept-breaking.")
        raise typer.Exit(1)
    for path in write_documents(root):
        typer.echo(f"wrote {path}")
    _tell(*(f"note: {change}" for change in state.readers_first))


def check(root: Root = Path()) -> None:
    """Exit 1 and say what is stale or breaking; exit 0 when the documents say what the models say."""
    state = _state(root)
    _tell(*(f"breaking: {change}" for change in state.breaking))
    _tell(*(f"note: {change}" for change in state.readers_first))
    _tell(*(f"stale: {path}" for path in state.stale))
    if state.breaking or state.stale:
        _tell("Run `turnstream contract generate`.")
        raise typer.Exit(1)
    typer.echo("The generated documents are in step with the models.")


def _state(root: Path) -> ContractState:
    if not (root / EXAMPLES).is_dir():
        _tell(f"{root} is not a checkout of Turnstream: it has no {EXAMPLES}.")
        raise typer.Exit(2)
    try:
        return contract_state(root)
    except ModuleNotFoundError as missing:
        _tell(f"This command needs the package {missing.name}: install the dev dependency group.")
        raise typer.Exit(2) from None


def _tell(*lines: str) -> None:
    for line in lines:
        typer.echo(line, err=True)

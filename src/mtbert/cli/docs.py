"""The command ``mtbert docs``."""

from typing import Annotated

import typer


def _topics(incomplete: str) -> list[str]:
    """Returns the pages whose names begin with ``incomplete``, for shell completion."""
    from mtbert.topics import page_titles

    return [name for name in page_titles() if name.startswith(incomplete)]


def docs(
    topic: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC", help="A page, or PAGE/HEADING. Default: list all.", autocompletion=_topics),
    ] = None,
) -> None:
    """Print a page of the documents, or one of its sections; without a topic, list the pages. Needs no network.

    Examples:

      mtbert docs

      mtbert docs install

      mtbert docs install/is-the-machine-well
    """
    from mtbert.topics import page_titles, topic_text

    if topic is not None:
        typer.echo(topic_text(topic))
        return
    titles = page_titles()
    width = max(map(len, titles), default=0)
    for name, title in titles.items():
        typer.echo(f"{name:{width}}  {title}")

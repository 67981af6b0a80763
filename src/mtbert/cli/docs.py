"""The command ``mtbert docs``."""

from typing import Annotated

import typer


def _topics(incomplete: str) -> list[str]:
    """Returns the pages whose names begin with what has been typed so far, for shell completion."""
    from mtbert.topics import page_titles

    return [name for name in page_titles() if name.startswith(incomplete)]


def docs(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="TOPIC",
            help="A page, PAGE/HEADING, or words to look for. Default: list all.",
            autocompletion=_topics,
        ),
    ] = None,
) -> None:
    """Print a page of these documents, or a section of one.

    Without a topic, the pages are listed. Needs no network. If no page has the given name, topics are listed: those
    that have the words in their headings or, failing that, in their texts.

    Examples:

      mtbert docs

      mtbert docs install

      mtbert docs install/check-the-machine

      mtbert docs split
    """
    from mtbert.messages import shown
    from mtbert.topics import page_titles, topic_text, topics_about

    titles = page_titles()
    if topic is not None:
        about = {} if topic.partition("/")[0] in titles else topics_about(topic)
        if not about:
            typer.echo(topic_text(topic))
            return
        titles = about
        typer.echo(f"No page is called {shown(topic)}. Print one of these with: mtbert docs TOPIC")
    width = max(map(len, titles), default=0)
    for name, title in titles.items():
        typer.echo(f"{name:{width}}  {title}")

"""`nullscope`: the commands. Quick to start: a command's module, and torch, are imported when it runs."""

from importlib import import_module

import click

from app.command_list import COMMANDS
from app.core.question import Question


class Lazy(click.Group):
    """Knows the commands' names and one-line helps: those written by hand, and those made from questions."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *questions()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            found: click.Command = import_module(COMMANDS[cmd_name][0]).command
            return found
        if (question := questions().get(cmd_name)) is None:
            return None
        from app.core.doors.command import command_of

        return command_of(question)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        made = {name: question.says.partition("\n")[0] for name, question in questions().items()}
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
        with formatter.section("Questions about a model"):
            formatter.write_dl(list(made.items()))


def questions() -> dict[str, Question]:
    """Those that have a command, by its name."""
    from app.registry import QUESTIONS

    return {question.command: question for question in QUESTIONS.values() if question.command}


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nullscope")
def main() -> None:
    """See how a language model regulates its own confidence."""

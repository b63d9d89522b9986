"""The argument parser of the commands."""

import argparse
import inspect
from collections.abc import Callable
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """A parser that refuses bad usage in one sentence, without the list of all arguments."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(2, f"{message}\n")


def parser_for(arguments_of: Callable) -> ArgumentParser:
    """A parser whose help begins with the docstring of the function that reads the arguments."""
    description = inspect.getdoc(arguments_of)
    return ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

"""The one error in nested groups: what a person wants to read."""

from typing import cast

__all__ = ["lone"]


def lone(error: BaseException) -> BaseException:
    """The error inside groups of one, else the error as it is."""
    while isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(inner) != 1:
            return cast(BaseException, error)
        error = inner[0]
    return error

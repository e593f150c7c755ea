"""A value that must not be seen: no codec takes it, and no log, traceback or message shows it."""

from typing import Generic, NoReturn, TypeVar

__all__ = ["Secret"]

T = TypeVar("T")


class Secret(Generic[T]):
    """Holds a value that only `reveal` gives. Encoding, pickling, copying, hashing and comparing are refused.

    Whoever calls `reveal` keeps the value in a local name and in nothing that outlives the call.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __format__(self, spec: str) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a secret is not compared")

    # A hash of what it holds would tell of it.
    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")

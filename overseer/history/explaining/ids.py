"""What an operator names a thing by: the beginning of a hash is enough where it is the only one; what is unknown gets a near match."""

from collections.abc import Iterable

__all__ = ["Unknown", "beginning", "chosen", "digits"]

_NEAR = 3


class Unknown(Exception):
    """There is no such thing in the journals, or more than one. `remedy`: what could be meant."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


def digits(text: str) -> str:
    """The hexadecimal digits that a hash begins with. Raises Unknown."""
    found = text.lower().removeprefix("0x")
    if not found or len(found) > 64 or any(each not in "0123456789abcdef" for each in found):
        raise Unknown(f"{text!r} is no hash, nor the beginning of one", "A hash is 0x and up to 64 hexadecimal digits.")
    return found


def beginning(text: str) -> bytes:
    """The whole bytes that a hash begins with: what is recorded of it holds them. Raises Unknown."""
    found = digits(text)
    return bytes.fromhex(found[: len(found) // 2 * 2])


def chosen(text: str, known: Iterable[bytes], what: str, where: str) -> bytes:
    """The one known hash that begins so. `where`: the command that lists them. Raises Unknown."""
    wanted = digits(text)
    hashes = sorted({each.hex() for each in known})
    found = [each for each in hashes if each.startswith(wanted)]
    if len(found) == 1:
        return bytes.fromhex(found[0])
    if found:
        shown = ", ".join(f"0x{each[: len(wanted) + 6]}" for each in found[:_NEAR])
        raise Unknown(f"{len(found)} {what}s begin with {text}", f"Give more digits: {shown}{' ...' if len(found) > _NEAR else ''}.")
    near = sorted(hashes, key=lambda each: (-_common(each, wanted), each))[:_NEAR]
    listed = f"Did you mean {' or '.join('0x' + each[:16] for each in near)}? " if near else ""
    raise Unknown(f"no {what} begins with {text} in this node's journals", f"{listed}{where}")


def _common(one: str, other: str) -> int:
    """Digits in common, from the first."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

"""One version of a chain's runtime, by its metadata: where it stores what we read, and how that is decoded.

The SCALE library (the extra `substrate`) decodes by the types of the metadata. Names are looked up, never numbers: what is not there, or is
called otherwise, is Unreadable, and said by name.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import xxhash
from scalecodec import ScaleBytes  # pyright: ignore[reportUnknownVariableType]
from scalecodec.base import RuntimeConfigurationObject
from scalecodec.type_registry import load_type_registry_preset  # pyright: ignore[reportUnknownVariableType]

from messages.polkadot import CandidateReceipt, Validator
from overseer.feeds.substrate.troubles import Unreadable
from overseer.feeds.substrate.values import StatementSet, receipt_of, statement_sets, validators_of

__all__ = ["CANDIDATES", "DISPUTES", "SESSIONS", "CandidateEvents", "Runtime"]

# What may be read of a runtime, as it is told.
CANDIDATES, DISPUTES, SESSIONS = "candidates", "disputes", "sessions"
_BACKED, _INCLUDED = "CandidateBacked", "CandidateIncluded"
# Unsigned extrinsics of the formats 4 and 5.
_BARE = (0x04, 0x05)


class CandidateEvents(NamedTuple):
    """Receipts of the candidates that a block backs and includes, in the order of its events."""

    backed: list[CandidateReceipt]
    included: list[CandidateReceipt]


class _Entry(NamedTuple):
    """A storage entry: its key (of a map: its beginning), the hashers of a map's keys, and the type of its value."""

    prefix: bytes
    hashers: tuple[str, ...]
    value: str

    def key(self, *parts: bytes) -> bytes:
        """The key of a map's value. Raises Unreadable where the map has another number of keys, or hashes them otherwise."""
        if len(parts) != len(self.hashers):
            raise Unreadable(f"a storage map of {len(self.hashers)} keys instead of {len(parts)}")
        return self.prefix + b"".join(_hashed(hasher, part) for hasher, part in zip(self.hashers, parts, strict=True))


class Runtime:
    """A runtime version. Raises Unreadable for metadata that cannot be read at all; `lacking` are the parts that it has not."""

    def __init__(self, metadata: bytes) -> None:
        # Its stubs leave half of its types open.
        self._types = cast(Any, RuntimeConfigurationObject(implements_scale_info=True))
        # part -> why it cannot be read
        self.lacking: dict[str, str] = {}
        self._pallets, self._kinds = self._read(metadata)
        try:
            self._look_around()
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise Unreadable(f"metadata of another form: {type(error).__name__}: {error}"[:300]) from None

    def _look_around(self) -> None:
        """Find what is read. Raises whatever comes where the metadata is not as version 14 or 15 has it."""
        self._events = self._entry_of(CANDIDATES, "System", "Events")
        self._included = self._entry_of("", "ParasDisputes", "Included")
        self._session = self._entry_of(SESSIONS, "ParasShared", "CurrentSessionIndex")
        self._infos = self._entry_of(SESSIONS, "ParaSessionInfo", "Sessions")
        if CANDIDATES not in self.lacking:
            self._look(CANDIDATES, "ParaInclusion", "event", (_BACKED, _INCLUDED))
        self._enter = self._look(DISPUTES, "ParaInherent", "calls", ("enter",))

    def _read(self, metadata: bytes) -> tuple[dict[str, Mapping[str, Any]], Mapping[int, Mapping[str, Any]]]:
        """Pallets by name, and types by number."""
        try:
            self._types.update_type_registry(load_type_registry_preset("core"))
            found = self._types.create_scale_object("MetadataVersioned", data=ScaleBytes(bytearray(metadata)))
            found.decode()
            body = found.value[1]
            version = next(iter(body))
            kinds = {t["id"]: t["type"] for t in body[version]["types"]["types"]}
            _check_finite(kinds)
            self._types.add_portable_registry(found)
            return {p["name"]: p for p in body[version]["pallets"]}, kinds
        except Unreadable:
            raise
        except Exception as error:
            # The library raises whatever comes to it when the bytes are not what it expects.
            raise Unreadable(f"metadata that cannot be read: {type(error).__name__}: {error}"[:300]) from None

    # -------------------------------------------------------------------------------------------- what is there

    def _lack(self, part: str, why: str) -> None:
        if part:
            self.lacking.setdefault(part, why)

    def _entry_of(self, part: str, pallet: str, name: str) -> _Entry | None:
        storage = self._pallets.get(pallet, {}).get("storage")
        if storage is None:
            self._lack(part, f"no storage of a pallet {pallet}")
            return None
        for entry in storage["entries"]:
            if entry["name"] == name:
                prefix = _twox128(storage["prefix"]) + _twox128(name)
                kind: Mapping[str, Any] = entry["type"]
                if "Plain" in kind:
                    return _Entry(prefix, (), f"scale_info::{kind['Plain']}")
                return _Entry(prefix, tuple(kind["Map"]["hashers"]), f"scale_info::{kind['Map']['value']}")
        self._lack(part, f"no {pallet}.{name}")
        return None

    def _look(self, part: str, pallet: str, what: str, names: Sequence[str]) -> tuple[int, int, list[str]] | None:
        """Pallet index, variant index and types of the fields of the first name, if all are there."""
        of_pallet = self._pallets.get(pallet)
        kind = None if of_pallet is None else of_pallet.get(what)
        if of_pallet is None or kind is None:
            self._lack(part, f"no {what} of a pallet {pallet}")
            return None
        definition = self._kinds[kind["ty"]]["def"]
        variants = {v["name"]: v for v in definition.get("variant", {}).get("variants", [])}
        for name in names:
            if name not in variants:
                self._lack(part, f"no {pallet}.{name}")
                return None
        first = variants[names[0]]
        return of_pallet["index"], first["index"], [f"scale_info::{field['type']}" for field in first["fields"]]

    # -------------------------------------------------------------------------------------------- keys

    @property
    def events_key(self) -> bytes:
        """Raises Unreadable, as all that follow."""
        return self._there(CANDIDATES, self._events).prefix

    @property
    def session_key(self) -> bytes:
        """Of the session that the next block is in."""
        return self._there(SESSIONS, self._session).prefix

    def session_info_key(self, session: int) -> bytes:
        return self._there(SESSIONS, self._infos).key(session.to_bytes(4, "little"))

    def included_key(self, session: int, candidate: bytes) -> bytes | None:
        """Of the number of the block before that which included a candidate of late; None where the runtime keeps none."""
        return None if self._included is None else self._included.key(session.to_bytes(4, "little"), candidate)

    def _there(self, part: str, entry: _Entry | None) -> _Entry:
        if part in self.lacking or entry is None:
            raise Unreadable(self.lacking[part])
        return entry

    # -------------------------------------------------------------------------------------------- values

    def _decoded(self, kind: str, data: bytes, what: str) -> Any:
        try:
            return self._types.batch_decode([kind], [data])[0]
        except Exception as error:
            raise Unreadable(f"{what} that cannot be decoded: {type(error).__name__}: {error}"[:300]) from None

    def candidate_events(self, events: bytes) -> CandidateEvents:
        """What the bytes under `events_key` tell. Raises Unreadable."""
        told = CandidateEvents([], [])
        lists = {_BACKED: told.backed, _INCLUDED: told.included}
        records = self._decoded(self._there(CANDIDATES, self._events).value, events, "events")
        try:
            for record in records:
                if record["module_id"] == "ParaInclusion" and record["event_id"] in lists:
                    lists[record["event_id"]].append(receipt_of(_first(record["attributes"])))
        except (LookupError, TypeError) as error:
            raise Unreadable(f"events of another form: {type(error).__name__}: {error}"[:300]) from None
        return told

    def session(self, value: bytes) -> int:
        """What is under `session_key`. Raises Unreadable."""
        number = self._decoded(self._there(SESSIONS, self._session).value, value, "the session's index")
        if not isinstance(number, int) or not 0 <= number < 2**32:
            raise Unreadable("a session's index that is no number of 32 bits")
        return number

    def validators(self, value: bytes) -> list[Validator]:
        """What is under `session_info_key`. Raises Unreadable."""
        return validators_of(self._decoded(self._there(SESSIONS, self._infos).value, value, "a session"))

    def included_after(self, value: bytes) -> int | None:
        """What is under `included_key`."""
        number = None if self._included is None else self._decoded(self._included.value, value, "the place of a candidate")
        return number if isinstance(number, int) else None

    def disputes(self, extrinsics: Sequence[bytes]) -> list[StatementSet]:
        """The dispute statements that a block's extrinsics carry. Raises Unreadable."""
        if self._enter is None:
            raise Unreadable(self.lacking[DISPUTES])
        pallet, call, fields = self._enter
        found: list[StatementSet] = []
        for extrinsic in extrinsics:
            body = _unframed(extrinsic)
            if len(body) < 3 or body[0] not in _BARE or (body[1], body[2]) != (pallet, call):
                continue
            if len(fields) != 1:
                raise Unreadable(f"ParaInherent.enter with {len(fields)} arguments")
            found += statement_sets(self._decoded(fields[0], body[3:], "the parachains inherent"))
        return found


def _check_finite(kinds: Mapping[int, Mapping[str, Any]]) -> None:
    """Raises Unreadable for a type that holds itself with nothing in between: to decode it would never end."""
    ended: set[int] = set()
    for first in kinds:
        # Types on the way down, each with those in it that are still to be looked at.
        way = [(first, iter(_held(kinds[first]["def"])))] if first not in ended else []
        on_way = {first}
        while way:
            kind, inner = way[-1]
            following = next((each for each in inner if each not in ended), None)
            if following is None:
                way.pop()
                on_way.discard(kind)
                ended.add(kind)
            elif following in on_way:
                raise Unreadable(f"a type, {following}, that holds itself")
            else:
                on_way.add(following)
                way.append((following, iter(_held(kinds[following]["def"]))))


def _held(definition: Mapping[str, Any]) -> list[int]:
    """The types that a value always holds; a sequence may be empty, and a variant begins with a byte of its own."""
    if "composite" in definition:
        return [field["type"] for field in definition["composite"]["fields"]]
    if "tuple" in definition:
        return list(definition["tuple"])
    if "array" in definition:
        return [definition["array"]["type"]]
    return []


def _first(attributes: Any) -> Any:
    """The receipt of an event: its first field."""
    if isinstance(attributes, (list, tuple)) and attributes:
        return cast(Sequence[Any], attributes)[0]
    raise Unreadable("an event of a candidate without a receipt")


def _unframed(extrinsic: bytes) -> bytes:
    """Without the compact length before it. Raises Unreadable."""
    if extrinsic:
        size = 1 << (extrinsic[0] & 3)
        if extrinsic[0] & 3 != 3 and int.from_bytes(extrinsic[:size], "little") >> 2 == len(extrinsic) - size:
            return extrinsic[size:]
    raise Unreadable("an extrinsic that is not as long as it says")


def _hashed(hasher: str, part: bytes) -> bytes:
    match hasher:
        case "Identity":
            return part
        case "Twox64Concat":
            return _xx64(part, 0) + part
        case "Blake2_128Concat":
            return blake2b(part, digest_size=16).digest() + part
        case _:
            raise Unreadable(f"a storage map hashed by {hasher}")


def _twox128(name: str) -> bytes:
    return _xx64(name.encode(), 0) + _xx64(name.encode(), 1)


def _xx64(data: bytes, seed: int) -> bytes:
    return xxhash.xxh64_intdigest(data, seed=seed).to_bytes(8, "little")

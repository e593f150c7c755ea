"""A small relay chain's runtimes: the pallets that the feed reads, with Polkadot's own paths, names and orders of fields."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from messages.polkadot import CandidateReceipt, Validator, Vote, VoteKind
from messages.scale import commitments_hash, encode_compact, encode_descriptor
from tests.feeds.substrate.runtimes import Entry, Pallet, Registry, Variant, metadata

__all__ = ["DisputeSet", "RelayRuntime"]

# session, candidate hash, votes
DisputeSet = tuple[int, bytes, Sequence[Vote]]

_VALID = {
    VoteKind.EXPLICIT_VALID: "Explicit",
    VoteKind.BACKING_SECONDED: "BackingSeconded",
    VoteKind.BACKING_VALID: "BackingValid",
    VoteKind.APPROVAL: "ApprovalChecking",
    VoteKind.APPROVAL_MULTIPLE: "ApprovalCheckingMultipleCandidates",
}


class RelayRuntime:
    """One runtime version: metadata, and the bytes of storage, events and inherents. `without`: pallets that are not there.

    `receipts`: the descriptor's fields, those of version 1 or 2; both are 292 bytes. `backed_name`: what the event is called.
    """

    def __init__(
        self, spec: int, *, receipts: int = 2, without: Sequence[str] = (), backed_name: str = "CandidateBacked", enter: str = "enter"
    ) -> None:
        self.spec = spec
        self.registry = registry = Registry()
        self._receipts = receipts
        self._without = without
        self._backed_name = backed_name
        self._enter = enter
        self.u8, self.u16, self.u32, self.bool = (registry.primitive(name) for name in ("u8", "u16", "u32", "bool"))
        self.bytes = registry.sequence(self.u8)
        self.h256 = registry.composite("primitive_types::H256", [("", registry.array(32, self.u8))])
        self.public = registry.composite("polkadot_primitives::v8::validator_app::Public", [("", registry.array(32, self.u8))])
        self.signature = registry.composite("polkadot_primitives::v8::validator_app::Signature", [("", registry.array(64, self.u8))])
        self.candidate = registry.composite("polkadot_core_primitives::CandidateHash", [("", self.h256)])
        self.index = registry.composite("polkadot_primitives::v8::ValidatorIndex", [("", self.u32)])
        self.receipt = self._receipt_type()

    def _receipt_type(self) -> int:
        r = self.registry
        head = [("para_id", r.composite("polkadot_parachain_primitives::primitives::Id", [("", self.u32)])), ("relay_parent", self.h256)]
        hashes = [("persisted_validation_data_hash", self.h256), ("pov_hash", self.h256), ("erasure_root", self.h256)]
        code = [("para_head", self.h256), ("validation_code_hash", self.h256)]
        if self._receipts == 1:
            fields = [*head, ("collator", self.public), *hashes, ("signature", self.signature), *code]
        else:
            version = r.composite("polkadot_primitives::vstaging::InternalVersion", [("", self.u8)])
            core = [("version", version), ("core_index", self.u16), ("session_index", self.u32), ("reserved1", r.array(25, self.u8))]
            fields = [*head, *core, *hashes, ("reserved2", r.array(64, self.u8)), *code]
        descriptor = r.composite("polkadot_primitives::vstaging::CandidateDescriptorV2", fields)
        return r.composite(
            "polkadot_primitives::vstaging::CandidateReceiptV2", [("descriptor", descriptor), ("commitments_hash", self.h256)]
        )

    # -------------------------------------------------------------------------------------------- types of pallets

    @cached_property
    def session_info(self) -> int:
        r, numbers = self.registry, self.registry.sequence(self.index)
        groups = r.sequence(numbers)
        return r.composite(
            "polkadot_primitives::v8::SessionInfo",
            [
                ("active_validator_indices", numbers),
                ("random_seed", r.array(32, self.u8)),
                ("dispute_period", self.u32),
                ("validators", r.composite("polkadot_primitives::v8::IndexedVec", [("", r.sequence(self.public))])),
                ("discovery_keys", r.sequence(self.public)),
                ("assignment_keys", r.sequence(self.public)),
                ("validator_groups", r.composite("polkadot_primitives::v8::IndexedVec", [("", groups)])),
                ("n_cores", self.u32),
                ("zeroth_delay_tranche_width", self.u32),
                ("relay_vrf_modulo_samples", self.u32),
                ("n_delay_tranches", self.u32),
                ("no_show_slots", self.u32),
                ("needed_approvals", self.u32),
            ],
        )

    @cached_property
    def disputes(self) -> int:
        """MultiDisputeStatementSet."""
        r = self.registry
        valid = r.variant(
            "polkadot_primitives::v8::ValidDisputeStatementKind",
            [
                Variant("Explicit", 0),
                Variant("BackingSeconded", 1, [("", self.h256)]),
                Variant("BackingValid", 2, [("", self.h256)]),
                Variant("ApprovalChecking", 3),
                Variant("ApprovalCheckingMultipleCandidates", 4, [("", r.sequence(self.candidate))]),
            ],
        )
        invalid = r.variant("polkadot_primitives::v8::InvalidDisputeStatementKind", [Variant("Explicit", 0)])
        statement = r.variant(
            "polkadot_primitives::v8::DisputeStatement", [Variant("Valid", 0, [("", valid)]), Variant("Invalid", 1, [("", invalid)])]
        )
        rows = r.sequence(r.group([statement, self.index, self.signature]))
        fields = [("candidate_hash", self.candidate), ("session", self.u32), ("statements", rows)]
        return r.sequence(r.composite("polkadot_primitives::v8::DisputeStatementSet", fields))

    @cached_property
    def inherent(self) -> int:
        """What the call `enter` carries: bitfields and backed candidates first, then disputes."""
        r = self.registry
        bit_order = r.composite("bitvec::order::Lsb0", [])
        bitfield = r.composite("polkadot_primitives::v8::AvailabilityBitfield", [("", r.bits(self.u8, bit_order))])
        fields = [("payload", bitfield), ("validator_index", self.index), ("signature", self.signature)]
        signed = r.composite("polkadot_primitives::v8::signed::UncheckedSigned", fields)
        return r.composite(
            "polkadot_primitives::vstaging::InherentData",
            [
                ("bitfields", r.sequence(signed)),
                ("backed_candidates", r.sequence(self.receipt)),
                ("disputes", self.disputes),
                ("parent_header", self.h256),
            ],
        )

    @cached_property
    def inclusion_event(self) -> int:
        fields = [("", self.receipt), ("", self.bytes), ("", self.u32), ("", self.u32)]
        return self.registry.variant(
            "polkadot_runtime_parachains::inclusion::pallet::Event",
            [
                Variant(self._backed_name, 0, fields),
                Variant("CandidateIncluded", 1, fields),
                Variant("CandidateTimedOut", 2, fields[:3]),
                Variant("UpwardMessagesReceived", 3, [("from", self.u32), ("count", self.u32)]),
            ],
        )

    @cached_property
    def events(self) -> int:
        """Vec<EventRecord>."""
        r = self.registry
        system = r.variant(
            "frame_system::pallet::Event",
            [Variant("CodeUpdated", 0), Variant("Remarked", 1, [("sender", self.public), ("hash", self.h256)])],
        )
        outer = r.variant(
            "relay_runtime::RuntimeEvent",
            [Variant("System", 0, [("", system)]), Variant("ParaInclusion", 53, [("", self.inclusion_event)])],
        )
        phases = [Variant("ApplyExtrinsic", 0, [("", self.u32)]), Variant("Finalization", 1), Variant("Initialization", 2)]
        phase = r.variant("frame_system::Phase", phases)
        record = r.composite("frame_system::EventRecord", [("phase", phase), ("event", outer), ("topics", r.sequence(self.h256))])
        self.system_event = system
        return r.sequence(record)

    @cached_property
    def metadata(self) -> bytes:
        r = self.registry
        events, inherent, session_info = self.events, self.inherent, self.session_info
        remark = r.variant("frame_system::pallet::Call", [Variant("remark", 0, [("remark", self.bytes)])])
        enter = r.variant("polkadot_runtime_parachains::paras_inherent::pallet::Call", [Variant(self._enter, 0, [("data", inherent)])])
        pallets = [
            Pallet("System", 0, [Entry("Events", events)], remark, self.system_event),
            Pallet("Session", 8, [Entry("CurrentIndex", self.u32)]),
            Pallet("ParaInclusion", 53, event=self.inclusion_event),
            Pallet("ParaInherent", 54, calls=enter),
            Pallet("ParaSessionInfo", 61, [Entry("Sessions", session_info, self.u32, (6,))]),
            Pallet("ParasShared", 52, [Entry("CurrentSessionIndex", self.u32)]),
            Pallet("ParasDisputes", 62, [Entry("Included", self.u32, r.group([self.u32, self.candidate]), (5, 5))]),
        ]
        return metadata(r, [p for p in pallets if p.name not in self._without], self.bytes)

    # -------------------------------------------------------------------------------------------- what is stored

    def receipt_bytes(self, receipt: CandidateReceipt) -> bytes:
        """The plain receipt."""
        commitments = receipt.commitments_hash or commitments_hash(receipt.commitments or _missing())
        return encode_descriptor(receipt.descriptor) + commitments

    def events_bytes(self, backed: Sequence[CandidateReceipt], included: Sequence[CandidateReceipt]) -> bytes:
        def record(event: tuple[Any, ...]) -> tuple[Any, ...]:
            return ("ApplyExtrinsic", 1), event, []

        other = [record(("System", ("Remarked", bytes(32), bytes(32)))), record(("ParaInclusion", ("UpwardMessagesReceived", 1000, 2)))]
        told = [
            record(("ParaInclusion", (name, self.receipt_bytes(receipt), [1, 2, 3], 0, 7)))
            for name, receipts in ((self._backed_name, backed), ("CandidateIncluded", included))
            for receipt in receipts
        ]
        return self.registry.encode(self.events, [*other, *told])

    def session_bytes(self, validators: Sequence[Validator]) -> bytes:
        keys = [v.key for v in validators]
        everyone = list(range(len(keys)))
        values = [everyone, bytes(32), 6, (keys,), keys, keys, ([everyone[:2], everyone[2:]],), 2, 0, 1, 40, 2, 2]
        return self.registry.encode(self.session_info, values)

    def inherent_bytes(
        self, disputes: Sequence[DisputeSet], backed: Sequence[CandidateReceipt], relay_parents: Callable[[bytes], bytes]
    ) -> bytes:
        """The extrinsic `enter`, unsigned, with its length. `relay_parents`: by candidate, for backing statements."""
        sets = [(candidate, session, [self._row(v, relay_parents(candidate)) for v in votes]) for session, candidate, votes in disputes]
        one_bitfield = (encode_compact(9) + b"\xff\x01", 3, bytes(64))
        data = self.registry.encode(self.inherent, [[one_bitfield], [self.receipt_bytes(r) for r in backed], sets, bytes(32)])
        return framed(b"\x04" + bytes([54, 0]) + data)

    def _row(self, vote: Vote, relay_parent: bytes) -> tuple[Any, ...]:
        if vote.kind is VoteKind.EXPLICIT_INVALID:
            return ("Invalid", "Explicit"), vote.validator, vote.signature
        name = _VALID[vote.kind]
        more: list[Any] = []
        if name.startswith("Backing"):
            more = [relay_parent]
        elif vote.kind is VoteKind.APPROVAL_MULTIPLE:
            more = [vote.candidates]
        return ("Valid", (name, *more)), vote.validator, vote.signature


def framed(extrinsic: bytes) -> bytes:
    """With its length before it."""
    return encode_compact(len(extrinsic)) + extrinsic


def timestamp() -> bytes:
    """Another inherent, of a pallet that the feed does not read."""
    return framed(b"\x04" + bytes([3, 0]) + encode_compact(1_700_000_000_000))


def _missing() -> Any:
    raise AssertionError("a receipt with commitments or their hash")

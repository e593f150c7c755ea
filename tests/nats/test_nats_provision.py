"""Provisioning on a real server: idempotent, shown beforehand, drift found, nothing unknown dropped."""

from typing import Any

import anyio
import msgspec
import pytest
from nats_bus import LIMITS, SITES_LIMITS, Bus
from nats_declarations import DECLARATIONS, NODE

from overseer.graph import filters, net_filters
from overseer.nats.provision import SETTLE_S, ApiError, DangerousSettings, Provisioner, call
from overseer.nats.resources import log_consumers, log_streams, node_consumers, node_streams

pytestmark = [pytest.mark.real, pytest.mark.anyio]

STREAM = f"OVERSEER_{NODE}"


async def test_the_first_plan_creates_everything_and_the_second_is_empty(bare_bus: Bus) -> None:
    provisioner = await bare_bus.provisioner()
    planned = [str(change) for change in await provisioner.plan()]
    assert planned == [
        "create stream OVERSEER_alpha",
        "create stream OVERSEER_NET",
        "create stream OBJ_overseer_alpha_povs",
        "create consumer OVERSEER_alpha/votes_db",
        "create consumer OVERSEER_NET/alpha-votes_db",
        "create consumer OVERSEER_alpha/dispute_conclusion",
        "create consumer OVERSEER_alpha/chain_api",
    ]
    assert [str(change) for change in await provisioner.apply()] == planned
    assert await provisioner.plan() == []
    assert await provisioner.apply() == []
    await provisioner.verify(await bare_bus.server.monitor("varz"))


async def test_the_stream_keeps_everything_and_refuses_when_full(bus: Bus) -> None:
    config = (await call(await bus.user("provisioner"), f"STREAM.INFO.{STREAM}"))["config"]
    wanted = {"retention": "limits", "discard": "new", "storage": "file", "deny_delete": True, "deny_purge": False, "allow_atomic": True}
    wanted |= {"allow_direct": False, "max_age": 0, "max_msgs_per_subject": -1, "num_replicas": 1, "max_bytes": LIMITS.node_bytes_max}
    wanted |= {"republish": {"src": f"overseer.{NODE}.>", "dest": f"live.overseer.{NODE}.>"}, "max_msg_size": 1024**2}
    assert {field: config[field] for field in wanted} == wanted
    consumer = (await call(await bus.user("provisioner"), f"CONSUMER.INFO.{STREAM}.votes_db"))["config"]
    assert (consumer["ack_policy"], consumer["deliver_policy"], consumer["max_deliver"]) == ("all", "all", -1)
    assert consumer["max_ack_pending"] == 200_000
    assert "inactive_threshold" not in consumer


async def test_copies_that_a_lone_server_cannot_have_are_refused_at_once(bare_bus: Bus) -> None:
    limits = msgspec.structs.replace(LIMITS, replicas=3)
    doer = Provisioner(await bare_bus.user("provisioner"), node_streams(NODE, limits), ())
    with anyio.fail_after(SETTLE_S / 2), pytest.raises(ApiError, match="replicas > 1 not supported in non-clustered mode"):
        await doer.apply()


async def test_nothing_is_verified_before_it_exists(bare_bus: Bus) -> None:
    with pytest.raises(DangerousSettings, match="stream OVERSEER_alpha does not exist"):
        await (await bare_bus.provisioner()).verify()


async def test_the_stream_gets_a_random_id_once(bus: Bus) -> None:
    provisioner = await bus.user("provisioner")
    first = (await call(provisioner, f"STREAM.INFO.{STREAM}"))["config"]["metadata"]
    await change_stream(bus, max_msgs=17)
    await (await bus.provisioner()).apply()
    second = (await call(provisioner, f"STREAM.INFO.{STREAM}"))["config"]["metadata"]
    assert len(first["overseer_id"]) == 32
    assert second["overseer_id"] == first["overseer_id"]
    assert second["overseer_node"] == NODE
    net = (await call(provisioner, "STREAM.INFO.OVERSEER_NET"))["config"]["metadata"]
    assert net["overseer_id"] not in ("", first["overseer_id"])


async def test_two_that_make_a_stream_at_once_agree_on_what_the_first_made(bare_bus: Bus) -> None:
    provisioners = [await bare_bus.provisioner() for _ in range(4)]
    with anyio.fail_after(SETTLE_S / 2):
        async with anyio.create_task_group() as tasks:
            for provisioner in provisioners:
                tasks.start_soon(provisioner.apply)
    assert [await provisioner.plan() for provisioner in provisioners] == [[]] * 4


async def change_stream(bus: Bus, **fields: Any) -> None:
    """Somebody else's doing."""
    user = await bus.user("provisioner")
    config = (await call(user, f"STREAM.INFO.{STREAM}"))["config"]
    await call(user, f"STREAM.UPDATE.{STREAM}", {**config, **fields})


async def change_consumer(bus: Bus, name: str, **fields: Any) -> None:
    user = await bus.user("provisioner")
    config = (await call(user, f"CONSUMER.INFO.{STREAM}.{name}"))["config"]
    await call(user, f"CONSUMER.CREATE.{STREAM}.{name}", {"stream_name": STREAM, "action": "update", "config": {**config, **fields}})


@pytest.mark.parametrize(
    ("field", "value"),
    [("discard", "old"), ("max_age", 10**12), ("allow_direct", True), ("allow_rollup_hdrs", True), ("no_ack", True)],
)
async def test_dangerous_drift_of_a_stream_is_named_and_mended(bus: Bus, field: str, value: object) -> None:
    await change_stream(bus, **{field: value})
    provisioner = await bus.provisioner()
    (change,) = await provisioner.plan()
    assert change.dangerous == (field,)
    with pytest.raises(DangerousSettings, match=field):
        await provisioner.verify()
    await provisioner.apply()
    await provisioner.verify()
    assert await provisioner.plan() == []


@pytest.mark.parametrize(("field", "value"), [("max_deliver", 3), ("filter_subjects", [f"overseer.{NODE}.*.cmd.chain_api.import_block"])])
async def test_dangerous_drift_of_a_consumer_is_named_and_mended(bus: Bus, field: str, value: object) -> None:
    await change_consumer(bus, "chain_api", **{field: value})
    provisioner = await bus.provisioner()
    (change,) = await provisioner.plan()
    assert (change.name, change.dangerous) == (f"{STREAM}/chain_api", (field,))
    with pytest.raises(DangerousSettings, match=field):
        await provisioner.verify()
    await provisioner.apply()
    await provisioner.verify()


async def test_harmless_drift_is_mended_but_no_danger(bus: Bus) -> None:
    await change_stream(bus, max_bytes=1_000_000)
    provisioner = await bus.provisioner()
    (change,) = await provisioner.plan()
    assert change.dangerous == ()
    assert str(change) == f"update stream OVERSEER_alpha\n  max_bytes: 1000000 -> {LIMITS.node_bytes_max}"
    await provisioner.verify()


async def test_what_cannot_be_mended_stays_a_danger(bare_bus: Bus) -> None:
    provisioner = await bare_bus.provisioner()
    user = await bare_bus.user("provisioner")
    config = {**node_streams(NODE, LIMITS)[0].config, "storage": "memory", "max_bytes": 1024**2}
    await call(user, f"STREAM.CREATE.{STREAM}", {field: value for field, value in config.items() if value is not None})
    with pytest.raises(Exception, match="can not change storage type"):
        await provisioner.apply()
    with pytest.raises(DangerousSettings, match="storage: 'memory' -> 'file'"):
        await provisioner.verify()


async def test_fields_we_do_not_know_survive_an_update(bus: Bus) -> None:
    await change_stream(bus, metadata={"theirs": "kept"}, compression="s2", max_msgs=5)
    provisioner = await bus.provisioner()
    await provisioner.apply()
    config = (await call(await bus.user("provisioner"), f"STREAM.INFO.{STREAM}"))["config"]
    assert (config["compression"], config["metadata"]["theirs"], config["max_msgs"]) == ("s2", "kept", LIMITS.node_messages_max)
    assert len(config["metadata"]["overseer_id"]) == 32


async def test_a_consumer_that_nobody_declares_any_more_is_shown_and_deleted_on_demand_only(bus: Bus) -> None:
    fewer = Provisioner(
        await bus.user("provisioner"), node_streams(NODE, LIMITS), node_consumers(NODE, DECLARATIONS[1:], filters, net_filters)
    )
    assert [str(change) for change in await fewer.plan()] == [f"delete consumer {STREAM}/votes_db"]
    assert await fewer.apply() == []
    assert [str(change) for change in await fewer.apply(delete=True)] == [f"delete consumer {STREAM}/votes_db"]
    assert await fewer.plan() == []


async def test_an_operators_consumer_is_nobodys_business(bus: Bus) -> None:
    operator = await bus.user("operator")
    config = {"name": "mine", "ack_policy": "explicit", "filter_subject": "overseer.>"}
    await call(operator, f"CONSUMER.CREATE.{STREAM}.mine", {"stream_name": STREAM, "action": "create", "config": config})
    assert await (await bus.provisioner()).plan() == []


# ------------------------------------------------------------------------------------------------ several sites of elections

LOG = f"OVERSEER_LOG_{NODE}"


async def sites_provisioner(bus: Bus) -> Provisioner:
    return Provisioner(await bus.user("provisioner"), log_streams(NODE, SITES_LIMITS), log_consumers(NODE, ("a", "b")))


async def test_the_log_of_elections_takes_only_subjects_that_end_in_its_id(sites_bus: Bus) -> None:
    provisioner = await sites_provisioner(sites_bus)
    planned = [str(change) for change in await provisioner.plan()]
    assert planned == [
        f"create stream {LOG}",
        f"create stream KV_overseer_{NODE}_topology",
        f"create stream KV_overseer_{NODE}_lease",
        f"create consumer {LOG}/elections_a-ballots",
        f"create consumer {LOG}/elections_b-ballots",
    ]
    assert [str(change) for change in await provisioner.apply()] == planned
    assert await provisioner.plan() == []
    await provisioner.verify()
    config = (await call(await sites_bus.user("provisioner"), f"STREAM.INFO.{LOG}"))["config"]
    assert config["subjects"] == [f"overseer.log.ballots.*.{NODE}.{config['metadata']['overseer_id']}"]
    assert len(config["metadata"]["overseer_id"]) == 32
    wanted = {"retention": "limits", "discard": "new", "storage": "file", "max_age": 0, "max_msgs_per_subject": -1, "num_replicas": 1}
    assert {field: config[field] for field in wanted} == wanted


@pytest.mark.parametrize(
    ("stream", "field", "value"),
    [
        (LOG, "subjects", [f"overseer.log.ballots.*.{NODE}.*"]),
        (LOG, "discard", "old"),
        (f"KV_overseer_{NODE}_lease", "max_age", 0),
        (f"KV_overseer_{NODE}_topology", "max_age", 10**12),
    ],
)
async def test_dangerous_drift_of_the_log_and_its_buckets_is_named_and_mended(
    sites_bus: Bus, stream: str, field: str, value: object
) -> None:
    provisioner = await sites_provisioner(sites_bus)
    await provisioner.apply()
    user = await sites_bus.user("provisioner")
    config = (await call(user, f"STREAM.INFO.{stream}"))["config"]
    await call(user, f"STREAM.UPDATE.{stream}", {**config, field: value})
    (change,) = await provisioner.plan()
    assert change.dangerous == (field,)
    with pytest.raises(DangerousSettings, match=field):
        await provisioner.verify()
    await provisioner.apply()
    assert await provisioner.plan() == []
    assert (await call(user, f"STREAM.INFO.{stream}"))["config"] == config


async def test_the_log_and_its_buckets_are_replicated_as_configured() -> None:
    streams = log_streams(NODE, msgspec.structs.replace(SITES_LIMITS, replicas=3))
    assert [stream.config["num_replicas"] for stream in streams] == [3, 3, 3]
    assert sum(stream.config["max_bytes"] for stream in streams) == SITES_LIMITS.log_store_bytes

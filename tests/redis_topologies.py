"""Owns servers that belong together: a primary with its replica and sentinel, and a cluster.

Never stops a server it did not start.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import redis
from redis.crc import key_slot

from tests.certificates import Certificates
from tests.redis_server import RedisServer, free_port, started, wait_until

SERVICE = "main"
NUM_SLOTS = 16384


def client_of(server: RedisServer, **options: Any) -> redis.Redis:
    return server.client(**options)


def host_for(certificates: Certificates | None) -> str:
    """How clients are to be told of servers; certificates name no address."""
    return "localhost" if certificates else "127.0.0.1"


class SentinelPair:
    """Two servers, one of them the primary, and the sentinel that says which."""

    def __init__(
        self,
        servers: list[RedisServer],
        sentinel: RedisServer,
        password: str,
        sentinel_password: str,
    ) -> None:
        self.servers, self.sentinel = servers, sentinel
        self._password, self._sentinel_password = password, sentinel_password

    @property
    def url(self) -> str:
        credentials = f":{self._password}@" if self._password else ""
        secret = self._sentinel_password
        options = f"?sentinel_password={secret}" if secret else ""
        return f"redis+sentinel://{credentials}127.0.0.1:{self.sentinel.port}/{SERVICE}/0{options}"

    @property
    def primary(self) -> RedisServer:
        """As the sentinel tells it."""
        with self._sentinel_client() as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        (found,) = (server for server in self.servers if server.port == int(port))
        return found

    def fail_over(self) -> None:
        """Return when the replica is the primary and the old primary its replica."""
        before = self.primary

        def took() -> bool:
            # Asked again until it did: a busy machine may make it give up in the middle.
            with self._sentinel_client() as client, suppress(redis.ResponseError):
                client.execute_command("SENTINEL", "FAILOVER", SERVICE)
            return self.primary is not before

        wait_until(took, "another primary", timeout_s=60.0)
        wait_until(lambda: self.role_of(before) == "slave", "the old primary's demotion")

    def _sentinel_client(self) -> redis.Redis:
        return client_of(self.sentinel, password=self._sentinel_password or None)

    def role_of(self, server: RedisServer) -> str:
        with client_of(server, password=self._password or None) as client:
            return str(client.role()[0].decode())


@contextmanager
def sentinel_pair(
    password: str = "",
    sentinel_password: str = "",
    *,
    user: str = "",
    sentinel_user: str = "",
    certificates: Certificates | None = None,
) -> Iterator[SentinelPair]:
    """The users are lines of access rules, beside the default user with the password."""
    host = host_for(certificates)
    secrets = {"requirepass": password, "masterauth": password} if password else {}
    # A promotion is synchronised at once instead of after five seconds.
    base = {"repl-diskless-sync-delay": "0", "replica-announce-ip": host} | secrets
    if user:
        base["user"] = user
    with ExitStack() as stack:

        def start(options: Mapping[str, str], *, is_sentinel: bool = False) -> RedisServer:
            server = started(options, is_sentinel=is_sentinel, certificates=certificates)
            return stack.enter_context(server)

        primary = start(base)
        replica = start(base | {"replicaof": f"{host} {primary.port}"})
        watch = [
            *("resolve-hostnames yes", "announce-hostnames yes"),
            f"monitor {SERVICE} {host} {primary.port} 1",
            f"down-after-milliseconds {SERVICE} 1500",
            f"failover-timeout {SERVICE} 2000",
            *([f"auth-pass {SERVICE} {password}"] if password else []),
        ]
        options = {"sentinel": "\nsentinel ".join(watch)}
        if sentinel_password:
            options["requirepass"] = sentinel_password
        if sentinel_user:
            options["user"] = sentinel_user
        sentinel = start(options, is_sentinel=True)
        pair = SentinelPair([primary, replica], sentinel, password, sentinel_password)

        def synchronised() -> bool:
            with client_of(replica, password=password or None) as client:
                return bool(client.info("replication")["master_link_status"] == "up")

        with client_of(sentinel, password=sentinel_password or None) as client:
            # It looks at its servers ten times a second instead of every ten seconds. It does not
            # promote a replica of which it heard nothing for five periods of pings, and asks one
            # whose primary is down but once a second; and it waits a period to connect again.
            periods = {"INFO-PERIOD": 100, "PING-PERIOD": 500, "PUBLISH-PERIOD": 100}
            for period, time_ms in periods.items():
                client.execute_command("SENTINEL", "DEBUG", period, time_ms)
            # A machine that stood still for a moment is no reason to do nothing for half a minute.
            client.execute_command("SENTINEL", "DEBUG", "TILT-TRIGGER", 60_000)

        def known() -> bool:
            with client_of(sentinel, password=sentinel_password or None) as client:
                told = client.execute_command("SENTINEL", "REPLICAS", SERVICE)
            return len(told) == 1

        wait_until(synchronised, "the replica's first synchronisation")
        wait_until(known, "the sentinel's look at the replica")
        yield pair


class Cluster:
    """Servers that share the hash slots among them, in order."""

    def __init__(self, nodes: list[RedisServer]) -> None:
        self.nodes = nodes
        self.ids = [self._call(node, "CLUSTER", "MYID").decode() for node in nodes]

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def owner(self, name: str) -> RedisServer:
        """The server of a key, as all nodes but those that do not answer tell."""
        slot = key_slot(name.encode())
        for node in self.nodes:
            try:
                slots = self._call(node, "CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            (port,) = (primary[1] for first, last, primary, *_ in slots if first <= slot <= last)
            (found,) = (node for node in self.nodes if node.port == port)
            return found
        raise RuntimeError("no node of the cluster answers")

    def other(self, server: RedisServer) -> RedisServer:
        return next(node for node in self.nodes if node is not server)

    def begin_migration(self, name: str, taker: RedisServer) -> None:
        """From now on the slot's owner answers ASK for keys it does not hold."""
        giver, slot = self.owner(name), key_slot(name.encode())
        self._call(taker, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(giver))
        self._call(giver, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(taker))

    def move_key(self, name: str, taker: RedisServer) -> None:
        self._call(self.owner(name), "MIGRATE", "127.0.0.1", taker.port, name, 0, 5000)

    def end_migration(self, name: str, taker: RedisServer) -> None:
        """The slot is the taker's, and every node knows."""
        slot = key_slot(name.encode())
        for node in (taker, *self.nodes):
            self._call(node, "CLUSTER", "SETSLOT", slot, "NODE", self._id(taker))

    def _id(self, server: RedisServer) -> str:
        return str(self.ids[self.nodes.index(server)])

    @staticmethod
    def _call(node: RedisServer, *command: Any) -> Any:
        with client_of(node) as client:
            connection = client.connection_pool.get_connection()
            try:
                connection.send_command(*command)
                return connection.read_response()
            finally:
                client.connection_pool.release(connection)


@contextmanager
def cluster(
    num_nodes: int, *, user: str = "", certificates: Certificates | None = None
) -> Iterator[Cluster]:
    """The user is a line of access rules, beside the default one who may do all."""
    extra = {"user": user} if user else {}
    if certificates:
        extra |= {"cluster-announce-hostname": host_for(certificates)}
        extra |= {"cluster-preferred-endpoint-type": "hostname"}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                started(
                    {
                        "cluster-enabled": "yes",
                        "cluster-port": str(free_port()),
                        "cluster-node-timeout": "1000",
                        # What the others hold is served on while one is away.
                        "cluster-require-full-coverage": "no",
                    }
                    | extra,
                    certificates=certificates,
                )
            )
            for _ in range(num_nodes)
        ]
        bounds = [NUM_SLOTS * k // num_nodes for k in range(num_nodes + 1)]
        made = Cluster(nodes)
        for k, node in enumerate(nodes):
            with client_of(node) as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[k], bounds[k + 1] - 1)
                bus = bus_port(nodes[0])
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, bus)

        def formed() -> bool:
            for node in nodes:
                with client_of(node) as client:
                    told = client.execute_command("CLUSTER INFO")
                    slots = client.execute_command("CLUSTER SLOTS")
                if "ok" not in str(told["cluster_state"]) or len(slots) != num_nodes:
                    return False
            return True

        wait_until(formed, "the cluster's forming")
        yield made


def bus_port(node: RedisServer) -> int:
    with client_of(node) as client:
        return int(client.config_get("cluster-port")["cluster-port"])

"""What a running service writes down holds nothing of its users, nor any key."""

import socket

import httpx

from tests.integration.conftest import Serve
from tests.integration.process import ANSWER_S
from tests.service.builders import ITEM_IDS

MARK = "telltale"
KEY, ADMIN_KEY = f"{MARK}-key-012345", f"{MARK}-admin-key-012345"
USER = {"user_id": f"{MARK}-user"}
EVENTS = USER | {
    "events": [
        {"item_id": f"{MARK}-item", "timestamp": 1},
        {"item_id": ITEM_IDS[0], "timestamp": 2},
    ]
}
RANKED = EVENTS | {"candidates": [f"{MARK}-item", ITEM_IDS[1]], "include": ["metadata"]}
WRONG = EVENTS | {"events": [{"item_id": ITEM_IDS[0], "action": f"{MARK}-action", "timestamp": 1}]}
BODIES: dict[str, list[object]] = {
    "/recommend": [RANKED, USER | {"num_results": 10**6}],
    "/events": [EVENTS],
    "/recommend/batch": [{"requests": [RANKED, WRONG, {MARK: MARK}, RANKED]}],
    "/events/batch": [{"requests": [EVENTS, WRONG, {MARK: MARK}, EVENTS]}],
}
ALWAYS: list[object] = [WRONG, {MARK: MARK}, MARK]


def test_nothing_of_users_and_no_key_is_written_down(serve: Serve) -> None:
    """Every operation of the OpenAPI document, with what it takes and with what it does not."""
    keys = ("--api-keys", f"shop={KEY}", "--admin-key", ADMIN_KEY)
    service = serve("memory", *keys, "--log-format", "json")
    statuses = set()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{service.port}", trust_env=False, timeout=ANSWER_S
    ) as client:
        paths = client.get("/openapi.json").json()["paths"]
        assert set(BODIES) <= set(paths)
        for headers in ({"X-API-Key": KEY}, {"X-API-Key": f"{MARK}-wrong"}):
            for path, operations in paths.items():
                url = path.replace("{user_id}", USER["user_id"])
                for method in operations:
                    for body in BODIES.get(path, []) + ALWAYS:
                        response = client.request(
                            *(method, url), json=body, headers=headers, params={MARK: MARK}
                        )
                        statuses.add(response.status_code)
            client.get(f"/{MARK}", headers=headers)
            client.post("/recommend", content=f'{{"{MARK}'.encode(), headers=headers)
    with socket.create_connection(("127.0.0.1", service.port), ANSWER_S) as raw:
        raw.sendall(f"GET /{MARK} {MARK}\r\n{MARK}\r\n\r\n".encode())
        raw.recv(1000)
    assert {200, 401, 413, 422} <= statuses
    assert not [status for status in statuses if status >= 500]
    assert '"route": "/recommend/batch"' in service.log
    assert MARK not in service.log

"""Owns what a person says of the traffic: users, rates, sizes, and what is asked of the answers."""

from pydantic import BaseModel, ConfigDict, Field


class Traffic(BaseModel):
    """At its peak, since that is what is planned for."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    users: int = Field(default=1_000_000, ge=1, description="users in all")
    requests_per_s: float = Field(
        default=1000, gt=0, description="recommendations asked a second, at the peak"
    )
    zipf: float = Field(
        default=1.0,
        ge=0,
        le=3,
        description="how much more often the keenest users come: the n-th as often as the first "
        "over n to this power; 0 is all alike",
    )
    history_events: int = Field(default=200, ge=2, description="events in a user's window")
    new_events: int = Field(default=1, ge=0, description="events that a request brings")
    candidates: int = Field(default=500, ge=1, description="items to be scored in a request")
    budget_ms: float = Field(default=50, gt=0, description="what an answer may take")
    in_time: float = Field(
        default=0.99, gt=0, lt=1, description="share of the answers to be whole and in time"
    )
    state_ttl_s: int = Field(
        default=7 * 86_400, ge=1, description="as `mfalcon serve --state-ttl-s`"
    )
    redis_bytes: int = Field(
        default=0, ge=0, description="memory of the Redis; 0: what holds every state until it ages"
    )
    device_cache_bytes: int = Field(
        default=256 << 20, ge=0, description="of a replica, as `mfalcon serve --device-cache-bytes`"
    )
    sticky: bool = Field(
        default=False, description="a user's requests go to the same replica while it is up"
    )

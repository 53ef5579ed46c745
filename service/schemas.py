"""Owns the JSON of the HTTP contract, as types. Never holds logic beyond validation.

Strict: a number is not taken for a string nor a string for a number.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema
from typing_extensions import TypedDict

UserId = Annotated[
    str,
    Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["42"]),
]
ItemId = Annotated[str, Field(min_length=1, max_length=256)]
Tier = Literal["device", "memory", "redis"]

_MAX_FIELDS = 128
_LATEST_SECOND = 32_503_680_000  # the year 3000; larger numbers are milliseconds


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, given: Any) -> Any:
        # Each unknown field is an error of its own: a large body of them takes a second to list.
        if isinstance(given, dict) and len(given) > _MAX_FIELDS:
            raise ValueError(f"has more than {_MAX_FIELDS} fields")
        return given


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class EventIn(_Request):
    """One interaction of the user."""

    item_id: ItemId
    action: str | None = Field(default=None, description="one of the checkpoint's actions")
    timestamp: int = Field(ge=0, lt=_LATEST_SECOND, description="Unix seconds")


class _WithEvents(_Request):
    user_id: UserId
    events: list[EventIn] = Field(
        default=[],
        fail_fast=True,
        description="added to the history, in any order; events already known are skipped",
    )
    history_mode: Literal["append", "replace"] = Field(
        default="append", description="replace: `events` are the whole history"
    )


class RecommendRequest(_WithEvents):
    candidates: list[ItemId] | None = Field(
        default=None,
        fail_fast=True,
        min_length=1,
        description="items to rank; left out: the whole catalogue",
    )
    num_results: int = Field(default=10, ge=1, description="items wanted")
    mode: Literal["ranking", "slate"] = Field(
        default="ranking",
        description="ranking: the best items, each by itself; slate: the best sequence of items, "
        "each as if those before it had happened",
    )
    beam: int = Field(
        default=4,
        ge=1,
        description="with mode slate: sequences that are kept from item to item; 1 is greedy",
    )
    exclude_seen: bool = Field(
        default=True, description="leave out items of the user's window, candidates too"
    )
    budget_ms: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="latency budget"
    )
    request_time: int | None = Field(
        default=None, ge=0, lt=_LATEST_SECOND, description="Unix seconds; left out: now"
    )
    history_size: int | None = Field(
        default=None, ge=0, description="events the caller knows of; holding fewer is told"
    )
    include: list[Literal["metadata", "parts"]] = Field(
        default=[],
        fail_fast=True,
        description="metadata: columns of items.csv; parts: the retrieval score",
    )

    @field_validator("beam")
    @classmethod
    def _of_a_slate(cls, given: int, info: ValidationInfo) -> int:
        if info.data.get("mode") == "ranking":
            raise ValueError('goes with mode "slate" alone; leave it out')
        return given


class EventsRequest(_WithEvents):
    pass


@dataclass(frozen=True)
class _Unread:
    """Documented as the model, and read as it only once the number of entries is known to be in
    bounds, each by itself: what is wrong with one fails no other."""

    model: type[_Request]

    def __get_pydantic_core_schema__(
        self, _: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        # The document is made of the first, parsed bodies are validated by the second.
        return core_schema.json_or_python_schema(
            handler.generate_schema(self.model), core_schema.any_schema()
        )


class RecommendBatch(_Request):
    """Each entry is served and counted as a `POST /recommend` of its own."""

    requests: list[Annotated[object, _Unread(RecommendRequest)]] = Field(
        min_length=1, description="those of one user are served in this order"
    )
    budget_ms: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="latency budget of all together"
    )


class EventsBatch(_Request):
    """Each entry is stored and counted as a `POST /events` of its own."""

    requests: list[Annotated[object, _Unread(EventsRequest)]] = Field(
        min_length=1, description="those of one user are stored in this order"
    )


class RankedItem(TypedDict):
    """A dictionary, not a model: an answer may have thousands, and is checked nowhere."""

    item_id: str
    score: Annotated[
        float | None,
        Field(
            description="value formula; in a slate the log probability after the items before it; "
            "null where the deadline came before the candidate was scored"
        ),
    ]
    actions: Annotated[dict[str, float] | None, Field(description="probability of each action")]
    retrieval_score: NotRequired[Annotated[float, Field(description="with include: parts")]]
    metadata: NotRequired[Annotated[dict[str, str], Field(description="with include: metadata")]]


class ModelInfo(_Answer):
    name: str
    fingerprint: str


class CacheInfo(_Answer):
    status: Literal["hit", "miss", "recomputed", "error"] = Field(
        description="recomputed: a stored state was not worth fetching; error: the store did not "
        "answer"
    )
    tier: Tier | None = Field(
        description="which tier had the state; device: this process, as tensors"
    )
    reused_events: int = Field(description="event rows taken from the state")
    encoded_events: int = Field(description="event rows run now; the newest always is")


class Timing(_Answer):
    queue: float = Field(description="waiting for the engine")
    cache: float = Field(description="reading the state")
    encode: float = Field(description="running event rows, and retrieval")
    score: float = Field(description="scoring candidates")
    total: float = Field(description="from the handler's start to its answer")


class RecommendResponse(_Answer):
    request_id: str
    user_id: str
    model: ModelInfo
    items: list[RankedItem]
    complete: bool = Field(description="false: something was left out, named in `degraded`")
    degraded: list[str]
    missing_item_ids: list[str] = Field(description="item ids the checkpoint does not know")
    cache: CacheInfo
    timing_ms: Timing


class EventsResponse(_Answer):
    request_id: str
    user_id: str
    accepted: int
    duplicates: int
    too_old: int = Field(description="events older than the window, not added")
    missing_item_ids: list[str]
    num_events: int = Field(description="events in the user's window now")
    stored: bool = Field(
        description="false: the store or the history provider did not answer; send them again"
    )


class StateResponse(_Answer):
    user_id: str
    fingerprint: str
    tiers: list[Tier] = Field(description="device: this process, as tensors; beside the store")
    num_events: int
    num_final: int = Field(description="events whose K and V are kept")
    anchor: int = Field(description="events before the window")
    version: int
    dtype: str = Field(description="numbers of the K and V kept")
    num_bytes: int = Field(description="in the store")
    expires_in_s: int | None = Field(description="seconds left in the store, unless it is used")


class DeleteResponse(_Answer):
    user_id: str
    deleted: bool


class ReloadRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    checkpoint: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="folder on the service's machine; left out: the one it serves, read again",
    )


class ReloadResponse(_Answer):
    request_id: str
    model: ModelInfo
    previous: ModelInfo
    seconds: float = Field(description="loading and warming up")


class Problem(_Answer):
    """RFC 9457 problem+json."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    retry_after_s: int | None = Field(default=None, description="as the header Retry-After")
    errors: list[dict[str, str]] | None = None


class RecommendBatchResponse(_Answer):
    request_id: str
    results: list[RecommendResponse | Problem] = Field(
        description="one for each of `requests`, in their order: its answer, or its problem, which "
        "has a `code`"
    )


class EventsBatchResponse(_Answer):
    request_id: str
    results: list[EventsResponse | Problem] = Field(
        description="one for each of `requests`, in their order: its answer, or its problem, which "
        "has a `code`"
    )

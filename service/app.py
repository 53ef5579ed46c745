"""Owns putting the service together: the only composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from model.checkpoint import Checkpoint
from service.api import problems
from service.api.disconnects import Disconnects
from service.api.middleware import BodyLimit, RequestScope
from service.api.routes import router
from service.runtime import Runtime
from service.settings import Settings

_DEMO_PAGE = Path(__file__).parent / "static" / "demo.html"


def create_app(settings: Settings, checkpoint: Checkpoint | None = None) -> FastAPI:
    """An ASGI app; the store is opened, and a checkpoint not given is loaded, in its lifespan."""
    runtime = Runtime(settings, checkpoint)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        try:
            yield
        finally:
            await runtime.stop()

    app = FastAPI(
        title="mfalcon",
        version=version("mfalcon"),
        description="Online inference for HSTU recommenders.",
        lifespan=lifespan,
    )
    app.state.runtime = runtime
    app.include_router(router)
    problems.install(app, runtime.metrics)
    app.add_middleware(Disconnects)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestScope, metrics=runtime.metrics)

    @app.get("/", include_in_schema=False)
    async def demo_page() -> FileResponse:
        return FileResponse(_DEMO_PAGE)

    return app

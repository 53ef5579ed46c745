"""Owns putting the service together: the only composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from service.api import admin, problems
from service.api.middleware import BodyLimit, RequestScope
from service.api.routes import router
from service.runtime import Runtime
from service.settings import Settings

_DEMO_PAGE = Path(__file__).parent / "static" / "demo.html"


def create_app(settings: Settings) -> FastAPI:
    """An ASGI app. Its lifespan begins with opening the store and loading the checkpoint, for which
    it does not wait: until then probes are answered, and requests refused."""
    runtime = Runtime(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        runtime.begin()
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
    app.include_router(admin.router)
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(
        RequestScope,
        metrics=runtime.metrics,
        lifecycle=runtime.lifecycle,
        in_flight=runtime.in_flight,
    )

    @app.get("/", include_in_schema=False)
    async def demo_page() -> FileResponse:
        return FileResponse(_DEMO_PAGE)

    return app

"""The web process: FastAPI with our own routes, Gradio's pages mounted behind the guard."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sqlite3
import tempfile
import warnings

# Read by Gradio while it is imported; nothing of ours talks to anyone outside this machine.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from gradio.components import Navbar
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from app.components import live, page_head
from app.downloads import download_routes
from app.guard import Guard, PageFrame
from app.routes import PAGES, Page
from app.services import Services
from app.theme import STATIC, gradio_theme, page_frame
from worker.settings import Settings

# Gradio keeps the last output of every session it remembers; a chart is some 50 kB.
MAX_SESSIONS = 300


def build_app(settings: Settings) -> FastAPI:
    """The whole web application over one data folder."""
    # Uploads land in a private folder of this user, not in a shared /tmp/gradio.
    os.environ.setdefault("GRADIO_TEMP_DIR", tempfile.mkdtemp(prefix="ttrl-studio-"))
    services = Services.open(settings)
    app = FastAPI(title="TTRL Studio", docs_url=None, redoc_url=None, openapi_url=None)
    _add_health(app, services)
    app.include_router(download_routes(services))
    app.mount("/studio", StaticFiles(directory=STATIC), name="studio")
    # Said about every multi-page app, whatever `ssr_mode` says.
    warnings.filterwarnings("ignore", message="SSR mode is not supported with multi-page apps")
    # Gradio is only partly typed; what it gives back is the FastAPI app it was given.
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        build_pages(services),
        path="/",
        theme=gradio_theme(),
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=settings.max_upload_bytes,
        enable_monitoring=False,
        ssr_mode=False,
    )
    # The last one added is the outermost.
    mounted.add_middleware(PageFrame, frame=page_frame)
    mounted.add_middleware(Guard)
    mounted.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts))
    return mounted


def build_pages(services: Services) -> gr.Blocks:
    """All pages in one Gradio app: the first at "/", the others as routes of it."""
    demo = gr.Blocks(title="TTRL Studio", analytics_enabled=False, delete_cache=(3600, 86400))
    with demo:
        _build_page(PAGES[0], services)
    for page in PAGES[1:]:
        with demo.route(page.title, page.path, show_in_navbar=False):
            _build_page(page, services)
    demo.state_session_capacity = MAX_SESSIONS
    demo.queue(default_concurrency_limit=8, max_size=200)
    return demo


def _build_page(page: Page, services: Services) -> None:
    Navbar(visible=False)
    name = f"app.pages.{page.module}"
    if importlib.util.find_spec(name) is None:
        live(page_head(page.title, "This page is not part of this installation."))
        return
    importlib.import_module(name).build(services)


def _add_health(app: FastAPI, services: Services) -> None:
    @app.get("/healthz", include_in_schema=False)
    def healthz() -> JSONResponse:
        """Ready means: the database answers."""
        try:
            services.store.change_token(None)
        except sqlite3.Error as failure:
            return JSONResponse({"ok": False, "reason": f"The database does not answer: {failure}"}, 503)
        return JSONResponse({"ok": True})


def serve(settings: Settings) -> None:
    """Run the web process until it is told to stop. Open event streams are cut after 5 s."""
    uvicorn.run(
        build_app(settings), host=settings.host, port=settings.port, log_level="warning", timeout_graceful_shutdown=5
    )

"""`python -m app`: the web process alone, told everything by TTRL_STUDIO_… variables. `ttrl-studio up` starts it."""

import warnings

from app.server import serve
from worker.settings import Settings

if __name__ == "__main__":
    # Gradio says this of every app with several pages, also of one that never asked for server-side rendering.
    warnings.filterwarnings("ignore", message="SSR mode is not supported")
    serve(Settings())

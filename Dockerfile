# CPU:  docker build -t ttrl-studio .
# GPU:  docker build -t ttrl-studio --build-arg EXTRAS=gpu .     (then: docker run --gpus all --shm-size 2g …)
# Run:  docker run -p 127.0.0.1:7860:7860 -v ttrl-data:/data ttrl-studio
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ARG EXTRAS=""
# Where PyTorch keeps its wheels without CUDA; not asked for the GPU image. Empty takes the default index.
ARG TORCH_CPU_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
# The heavy layer first: it changes only with the pins.
COPY pyproject.toml constraints.txt ./
RUN torch="$(sed -n 's/.*"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)" \
 && if [ -z "$EXTRAS" ] && [ -n "$TORCH_CPU_INDEX" ]; then \
      pip install --constraint constraints.txt --index-url "$TORCH_CPU_INDEX" "$torch"; \
    else pip install --constraint constraints.txt "$torch"; fi
COPY README.md LICENSE ./
COPY ttrl_engine ttrl_engine
COPY worker worker
COPY app app
RUN pip install --constraint constraints.txt ".${EXTRAS:+[$EXTRAS]}"

FROM python:${PYTHON_VERSION}-slim
ARG EXTRAS=""
# vLLM compiles kernels when it starts.
RUN if [ -n "$EXTRAS" ]; then \
      apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; fi
RUN useradd --create-home --uid 10001 studio && install -d -o studio -g studio /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/data/huggingface \
    TTRL_STUDIO_DATA_DIR=/data \
    TTRL_STUDIO_HOST=0.0.0.0 \
    TTRL_STUDIO_PORT=7860
USER studio
WORKDIR /home/studio
VOLUME /data
EXPOSE 7860
# The worker gets its grace to save a running job; docker stop waits 10 s unless told: docker stop --time 45.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['TTRL_STUDIO_PORT'] + '/healthz', timeout=4)"]
CMD ["ttrl-studio", "up"]

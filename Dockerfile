# The environment of requirements.lock on a machine with an NVIDIA driver for CUDA 13:
#   docker build -t roboalign .
#   docker run --gpus all --shm-size 16g -v "$PWD":/workspace roboalign dvc repro
# The checkout is mounted, so that outputs and DVC's cache stay; without a mount, a container has the files of the build.
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04

# compute: CUDA; graphics: EGL of the driver, with which simulators render (without a GPU, Mesa renders).
ENV DEBIAN_FRONTEND=noninteractive \
    NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility \
    PATH=/opt/roboalign/.venv/bin:$PATH

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make python3 python3-venv \
        libegl1 libgl1 libegl-mesa0 libgl1-mesa-dri libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# The environment is outside the checkout, which a mount replaces. It is built again only if the lock changes.
WORKDIR /opt/roboalign
COPY Makefile requirements.lock ./
COPY scripts/setup scripts/setup
RUN make setup && rm -rf ~/.cache

WORKDIR /workspace
COPY . .
# For `make`. A mounted checkout belongs to another user, which git refuses by default.
RUN ln -s /opt/roboalign/.venv .venv && git config --system --add safe.directory /workspace
CMD ["dvc", "repro"]

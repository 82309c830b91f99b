# A LAMMPS with Kokkos, built from source, and mixserver's worker for it.
#
#   docker build -f docker/lammps-kokkos.Dockerfile -t mixserver-lammps-kokkos:openmp .
#   docker build -f docker/lammps-kokkos.Dockerfile -t mixserver-lammps-kokkos:hopper90 . \
#     --build-arg KOKKOS_DEVICE=cuda --build-arg KOKKOS_ARCH=HOPPER90 \
#     --build-arg BUILD_IMAGE=nvidia/cuda:12.8.1-devel-ubuntu24.04 \
#     --build-arg RUNTIME_IMAGE=nvidia/cuda:12.8.1-runtime-ubuntu24.04
#
# Both images must be of one distribution, Debian or Ubuntu, with Python 3.11 or later, which is
# installed if they have none. A CUDA binary holds the code of one architecture: one image each.
# docs/howto/docker.md says more.

ARG BUILD_IMAGE=python:3.11-slim-bookworm
ARG RUNTIME_IMAGE=python:3.11-slim-bookworm

# Empty, unless a build names a folder for them: --build-context wheels=FOLDER (Python wheels to
# prefer), --build-context lammps-source=FOLDER (LAMMPS's source, instead of downloading it).
FROM scratch AS wheels
FROM scratch AS lammps-source

# --- Python, MPI and what a worker needs ---------------------------------------------------------
FROM ${BUILD_IMAGE} AS tools
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1
RUN --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates ccache cmake curl g++ ninja-build \
 && (command -v python3 >/dev/null || apt-get install -y --no-install-recommends python3 python3-venv)
# MPI comes as a wheel, the same as in the image without Kokkos: one MPI for LAMMPS and mpi4py.
RUN --mount=type=bind,source=pyproject.toml,target=/project/pyproject.toml \
    --mount=type=bind,source=constraints.txt,target=/project/constraints.txt \
    --mount=type=bind,source=docker/requirements.py,target=/project/requirements.py \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/root/.config/pip/pip.conf \
    python3 -m venv /opt/venv \
 && python3 /project/requirements.py /project/pyproject.toml lammps \
    | grep -v '^lammps' >/tmp/requirements.txt \
 && /opt/venv/bin/pip install --find-links /wheels \
    -c /project/constraints.txt -r /tmp/requirements.txt

# --- LAMMPS --------------------------------------------------------------------------------------
FROM tools AS lammps-build
ARG LAMMPS_REF=stable_22Jul2025_update4
# of the source tarball; empty accepts what the download gives
ARG LAMMPS_SHA256=""
# openmp or cuda
ARG KOKKOS_DEVICE=openmp
# cuda: AMPERE80 (A100), ADA89 (L40, RTX 4000), HOPPER90 (H100, H200), BLACKWELL100, ...; required.
# openmp: empty for any x86-64 or arm64 processor, NATIVE for that of the building machine, or
# SKX, ICX, SPR, ZEN3, ZEN4, ...
ARG KOKKOS_ARCH=""
ARG LAMMPS_PACKAGES="KOKKOS MANYBODY MISC ML-SNAP ML-UF3"
# further options of LAMMPS's CMake
ARG LAMMPS_CMAKE=""
# Kokkos takes about 2 GB of memory a job
ARG BUILD_JOBS=""
RUN --mount=type=bind,from=lammps-source,target=/given \
    --mount=type=bind,source=docker/build-lammps.sh,target=/build-lammps.sh \
    --mount=type=cache,target=/root/.cache/ccache \
    bash /build-lammps.sh

# --- the worker ----------------------------------------------------------------------------------
FROM lammps-build AS worker-build
RUN --mount=type=bind,target=/project \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/root/.config/pip/pip.conf \
    cp -r /project /tmp/project \
 && /opt/venv/bin/pip install --no-deps --find-links /wheels /tmp/project \
 && /opt/venv/bin/pip uninstall -y pip setuptools \
 && find /opt/venv -name '*.a' -delete

FROM ${RUNTIME_IMAGE} AS lammps-kokkos
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    missing=() \
 && (ldconfig -p | grep -q libgomp.so.1) || missing+=(libgomp1) \
 && (command -v python3 >/dev/null) || missing+=(python3) \
 && if [ "${#missing[@]}" -gt 0 ]; then \
      apt-get update \
      && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; \
    fi
COPY --from=worker-build /opt/lammps /opt/lammps
COPY --from=worker-build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/opt/lammps/bin:$PATH \
    PYTHONUNBUFFERED=1 HOME=/tmp OMP_PROC_BIND=false \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN groupadd --gid 10001 mixserver \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp mixserver \
 && install -d -o 10001 -g 10001 -m 0770 /run/mixserver
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mixserver worker: LAMMPS with Kokkos" \
      org.opencontainers.image.description="Evaluates a cheap potential for mixserver in LAMMPS with Kokkos" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
WORKDIR /inputs
STOPSIGNAL SIGTERM
ENTRYPOINT ["mixserver-worker"]
CMD ["--help"]

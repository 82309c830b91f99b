#!/usr/bin/env bash
# Installs /tmp/requirements.txt into /opt/venv; docker/Dockerfile calls it.
# DEVICE, TORCH_INDEX, CUEQUIVARIANCE and CUDA_MAJOR are arguments of the image with MACE.
set -euo pipefail

pip=/opt/venv/bin/pip
install=("$pip" install --find-links /wheels)
more=()

if grep -q '^torch' /tmp/requirements.txt; then
  case ${DEVICE:-cpu} in cpu | cuda) ;; *)
    echo "DEVICE must be cpu or cuda, not $DEVICE" >&2
    exit 1
    ;;
  esac
  # First, and with its constraint: whatever asks for torch later finds it installed.
  "${install[@]}" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
  if [ "${DEVICE:-cpu}" = cuda ]; then
    cuda=$(/opt/venv/bin/python -c 'import torch; print((torch.version.cuda or "no").split(".")[0])')
    if [ "$cuda" != "${CUDA_MAJOR:?}" ]; then
      echo "DEVICE=cuda needs a torch for CUDA $CUDA_MAJOR, but this one is for CUDA: $cuda." \
        "Set CUDA_MAJOR, or TORCH_INDEX to an index that has it" >&2
      exit 1
    fi
    if [ "${CUEQUIVARIANCE:-on}" = on ]; then
      more=(cuequivariance-torch "cuequivariance-ops-torch-cu$cuda")
    fi
  fi
fi
"${install[@]}" -r /tmp/requirements.txt "${more[@]}"

# tests of the packages and static libraries are of no use here
find /opt/venv -name '*.a' -delete
find /opt/venv -type d \( -name tests -o -name test \) -path '*/site-packages/*' \
  ! -path '*/torch/*' ! -path '*/numpy/*' ! -path '*/ase/*' -prune -exec rm -rf {} +

#!/usr/bin/env bash
# Builds LAMMPS with Kokkos for docker/lammps-kokkos.Dockerfile, which sets the variables.
# Source: the folder /given if it holds one, else the tarball of the release LAMMPS_REF.
set -euo pipefail

: "${LAMMPS_REF:?}" "${KOKKOS_DEVICE:?}" "${LAMMPS_PACKAGES:?}"
source=/src/lammps build=/build venv=/opt/venv prefix=/opt/lammps

mkdir -p "$source"
if [ -d /given/cmake ]; then
  cp -a /given/. "$source/"
else
  curl -fsSL --retry 3 -o /src/lammps.tar.gz \
    "https://github.com/lammps/lammps/archive/refs/tags/$LAMMPS_REF.tar.gz"
  if [ -n "${LAMMPS_SHA256:-}" ]; then
    echo "$LAMMPS_SHA256  /src/lammps.tar.gz" | sha256sum --check
  fi
  tar -xzf /src/lammps.tar.gz -C "$source" --strip-components=1
  rm /src/lammps.tar.gz
fi

options=(
  -D CMAKE_BUILD_TYPE=Release
  -D CMAKE_INSTALL_PREFIX="$prefix"
  -D CMAKE_INSTALL_LIBDIR=lib
  -D CMAKE_INSTALL_RPATH="$prefix/lib:$venv/lib"
  -D BUILD_SHARED_LIBS=on
  -D BUILD_MPI=on
  -D MPI_CXX_COMPILER="$venv/bin/mpicxx"
  -D BUILD_OMP=on
  -D LAMMPS_EXCEPTIONS=on
  -D FFT=KISS
)
for library in JPEG PNG FFMPEG CURL GZIP; do options+=(-D "WITH_$library=off"); done
for package in $LAMMPS_PACKAGES; do options+=(-D "PKG_$package=on"); done
case $KOKKOS_DEVICE in
  openmp)
    options+=(-D Kokkos_ENABLE_SERIAL=on -D Kokkos_ENABLE_OPENMP=on)
    options+=(-D CMAKE_CXX_COMPILER_LAUNCHER=ccache)
    ;;
  cuda)
    if [ -z "${KOKKOS_ARCH:-}" ]; then
      echo "KOKKOS_DEVICE=cuda needs KOKKOS_ARCH, such as HOPPER90: a build has no GPU to ask" >&2
      exit 1
    fi
    options+=(-D Kokkos_ENABLE_SERIAL=on -D Kokkos_ENABLE_CUDA=on)
    options+=(-D CMAKE_CXX_COMPILER="$source/lib/kokkos/bin/nvcc_wrapper")
    ;;
  *)
    echo "KOKKOS_DEVICE must be openmp or cuda, not $KOKKOS_DEVICE" >&2
    exit 1
    ;;
esac
if [ -n "${KOKKOS_ARCH:-}" ]; then options+=(-D "Kokkos_ARCH_$KOKKOS_ARCH=on"); fi
read -ra more <<<"${LAMMPS_CMAKE:-}"

PATH=$venv/bin:$PATH cmake -G Ninja -S "$source/cmake" -B "$build" "${options[@]}" "${more[@]}"
cmake --build "$build" --parallel "${BUILD_JOBS:-$(nproc)}"
cmake --install "$build" --strip

# Its Python module, as in the wheel: the package with the library inside. Of what was installed,
# the library and `lmp` are kept; a case brings its own potential files.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r "$source/python/lammps" "$site/lammps"
ln -s "$prefix/lib/liblammps.so" "$site/lammps/liblammps.so"
for unused in share include etc lib/cmake lib/pkgconfig; do rm -rf "${prefix:?}/$unused"; done
rm -rf "$build" "$source"

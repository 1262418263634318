# A CUDA 13.0 toolkit out of PyPI's wheels, to build with on a machine without CUDA. To be sourced:
#
#   . tests/gpu/toolkit.sh && cargo build --release --features cuda
#
#   XGBRUN_CUDA       folder of the toolkit              [~/.cache/xgbrun/cu13]
#   CUDA_COMPUTE_CAP  capability that is compiled for    [80]
#
# Fills the folder once, 1.2 GB, and sets what cargo, nvcc and the linker read. Needs bash, python3
# with pip, and a C compiler. A driver is no part of it: tests/gpu/stub.c stands in for libcuda, so
# that the program links, starts and says that there is no GPU. On a machine with a driver leave the
# stub's folder out of LD_LIBRARY_PATH: `XGBRUN_STUB=no . tests/gpu/toolkit.sh`.
# shellcheck shell=bash

xgbrun_toolkit() {
    local here home sys library
    here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
    home="${XGBRUN_CUDA:-$HOME/.cache/xgbrun/cu13}/nvidia/cu13"
    if [ ! -e "$home/lib/libcublas.so" ]; then
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
            --no-deps --target "${home%/nvidia/cu13}" \
            nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
            nvidia-cuda-runtime==13.0.96 nvidia-cublas==13.1.0.3 nvidia-curand==10.4.0.35 \
            nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88 || return 1
        ln -sfn lib "$home/lib64"
        # Last what is looked for above.
        for library in cublasLt:13 cudart:13 curand:10 nvrtc:13 cublas:13; do
            ln -sf "lib${library%%:*}.so.${library##*:}" "$home/lib/lib${library%%:*}.so"
        done
    fi
    if [ ! -e "$home/stub/libcuda.so" ] || [ "$here/stub.c" -nt "$home/stub/libcuda.so" ]; then
        (cd "$here/../.." && cargo fetch --quiet) || return 1
        sys="$(printf '%s/src/driver/sys/mod.rs\n' \
            "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-0.19.* | sort -V | tail -n 1)"
        [ -e "$sys" ] || { echo "no sources of cudarc 0.19 in cargo's registry" >&2; return 1; }
        mkdir -p "$home/stub"
        # Every function of the driver that cudarc names, but for those that the stub has.
        grep -o 'pub unsafe fn cu[A-Za-z0-9_]*' "$sys" | awk '{ print $4 }' | sort -u |
            grep -vxF "$(grep -o '^int cu[A-Za-z0-9_]*' "$here/stub.c" | awk '{ print $2 }')" |
            sed 's/.*/int &(void) { return 999; }/' > "$home/stub/others.h"
        cc -shared -fPIC -Wl,-soname,libcuda.so.1 -I "$home/stub" -o "$home/stub/libcuda.so" \
            "$here/stub.c" || return 1
        ln -sf libcuda.so "$home/stub/libcuda.so.1"
    fi
    export CUDA_HOME="$home" CUDA_PATH="$home" PATH="$home/bin:$PATH" CUDARC_CUDA_VERSION=13000
    export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-80}"
    # The linker finds the stub here too.
    export LIBRARY_PATH="$home/stub${LIBRARY_PATH:+:$LIBRARY_PATH}"
    ln -sfn ../stub "$home/lib/stubs"
    LD_LIBRARY_PATH="$home/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    [ "${XGBRUN_STUB:-}" = no ] || LD_LIBRARY_PATH="$home/stub:$LD_LIBRARY_PATH"
    export LD_LIBRARY_PATH
}

xgbrun_toolkit

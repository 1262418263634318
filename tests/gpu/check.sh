#!/usr/bin/env bash
# What a GPU computes, held against the CPU.
#
#   tests/gpu/check.sh [OUT]     writes to OUT too               [gpu-check]
#
#   XGBRUN          the program, built with CUDA                 [target/gpu/xgbrun.gz, unpacked]
#   XGBRUN_DEVICE   the device that is held against the CPU      [cuda]
#
# For a machine with a GPU and its driver; cargo, a network and the toolkit need not be there. The
# CUDA 13 libraries come from LD_LIBRARY_PATH, python's nvidia packages or the toolkit of nvcc. A
# line a check: a failed one does not stop the next, and each has a time limit. Exit code 1 where
# one failed.
set -uo pipefail
[ -z "${XGBRUN:-}" ] || XGBRUN="$(realpath "$XGBRUN")"
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

out="${1:-gpu-check}"
device="${XGBRUN_DEVICE:-cuda}"
limit=60 # seconds a check
mkdir -p "$out" || exit 1
report="$out/gpu-check.txt"
work="$(mktemp -d)" # the program and what the checks write: OUT has the report alone
trap 'rm -rf "$work"' EXIT
# Kernels are translated for the card once, not by each check.
export CUDA_CACHE_PATH="${CUDA_CACHE_PATH:-$work/kernels}"
: > "$report"
say() { printf '%s\n' "$*" | tee -a "$report"; }

program="${XGBRUN:-$work/xgbrun}"
if [ -z "${XGBRUN:-}" ]; then
    if ! gunzip -c target/gpu/xgbrun.gz > "$program"; then
        say "no program: set XGBRUN, or make target/gpu/xgbrun.gz (docs/cuda.md)"
        exit 1
    fi
    chmod +x "$program"
fi
# The program runs in other folders too.
program="$(realpath "$program")"

# Folders with CUDA's libraries, those of python's packages and of nvcc's toolkit.
folders="$(python3 - 2> /dev/null << 'PYTHON'
import glob, os, sysconfig
for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
    for folder in sorted(glob.glob(os.path.join(site, "nvidia", "*", "lib"))):
        if glob.glob(os.path.join(folder, "*.so*")):
            print(folder)
PYTHON
)"
if nvcc="$(command -v nvcc)"; then
    toolkit="$(dirname "$(dirname "$(realpath "$nvcc")")")"
    for folder in "$toolkit/lib64" "$toolkit"/targets/*/lib; do
        [ -d "$folder" ] && folders="$folders"$'\n'"$folder"
    done
fi
[ -d /usr/local/nvidia/lib64 ] && folders="$folders"$'\n'/usr/local/nvidia/lib64
while read -r folder; do
    [ -n "$folder" ] && LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder"
done <<< "$folders"
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}"

say "program    $("$program" --version 2>&1 | tail -n 1), $(sha256sum "$program" | cut -c 1-16)"
say "machine    $(nproc) processors, $(uname -m)"
gpu="$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null |
    head -n 1)"
say "GPU        ${gpu:-nvidia-smi shows none}"
ldd "$program" | grep -E 'libcu|libnv|not found' | sed 's/ (0x.*//' | while read -r line; do
    say "library    $line"
done

if ! checks="$("$program" gpu-check --list 2>&1)"; then
    say "$checks"
    say "the program does not start, or was built without CUDA"
    exit 1
fi
failed=0
started=$SECONDS
for check in $checks; do
    timeout --kill-after 5 "$limit" "$program" gpu-check "$check" --device "$device" \
        --out "$work/$check" 2>&1 | grep -v '^error: 1 of the checks failed' | tee -a "$report"
    code="${PIPESTATUS[0]}"
    [ "$code" = 0 ] && continue
    failed=$((failed + 1))
    say "FAILED $check: exit code $code (124: over $limit s)"
    # What hangs at once would hang in each.
    [ "$check" = device ] && [ "$code" = 124 ] && break
done
say "$failed failed, $((SECONDS - started)) s"
[ "$failed" = 0 ]

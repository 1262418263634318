#!/usr/bin/env bash
# Makes report-light.png and report-dark.png beside this script of the report of a run.
#
#   docs/screenshots.sh RUN [XGBRUN]    XGBRUN: the program [xgbrun]
#
# Needs chromium (XGBRUN_CHROMIUM names another).
set -euo pipefail

run="${1:?which run folder? docs/screenshots.sh RUN [XGBRUN]}"
program="${2:-xgbrun}"
browser="${XGBRUN_CHROMIUM:-$(command -v chromium || command -v chromium-browser)}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"$program" report "$run" --out "$work/report.html" > /dev/null

# shot NAME SCHEME: 0 is dark, 1 is light.
shot() {
    "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
        --user-data-dir="$work/profile" --window-size=1280,1830 \
        --blink-settings=preferredColorScheme="$2" --screenshot="$work/$1" \
        "file://$work/report.html" 2> /dev/null
    mv "$work/$1" "$here/$1"
    echo "$here/$1: $(stat -c %s "$here/$1") bytes"
}

shot report-light.png 1
shot report-dark.png 0

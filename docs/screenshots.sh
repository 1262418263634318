#!/usr/bin/env bash
# Makes the pictures of report.md beside this script: the report of a run, of a sweep of six points,
# and of three seeds, each 1280 and 400 pixels wide, in light and in dark.
#
#   docs/screenshots.sh [XGBRUN]    XGBRUN: the program [xgbrun]
#
# Needs chromium (XGBRUN_CHROMIUM names another) and three minutes.
set -euo pipefail

program="$(command -v "${1:-xgbrun}")"
browser="${XGBRUN_CHROMIUM:-$(command -v chromium || command -v chromium-browser)}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

recipes="$here/../recipes"
for seed in 0 1 2; do
    "$program" "$recipes/commonsense.rhai" --seed "$seed" --quiet --out "seed-$seed" 2> /dev/null
done
"$program" "$recipes/ablation.rhai" -p 'layers=[2]' -p 'rank=[1,4,8]' --quiet --out sweep \
    2> /dev/null
cp seed-0/report.html run.html
cp sweep/report.html sweep.html
"$program" report seed-0 seed-1 seed-2 --out seeds.html > /dev/null

# frame PAGE WIDTH SCHEME: a page as a browser of that width shows it.
frame() {
    echo "<iframe src=\"$1.html\" style=\"width:${2}px;color-scheme:$3\"></iframe>"
}

# shot PAGE HEIGHT: four views of a page beside each other, at half their size.
shot() {
    {
        echo '<!DOCTYPE html><meta charset="utf-8"><style>'
        echo 'body { margin: 0; display: flex; gap: 16px; background: #888; }'
        echo "iframe { border: 0; height: ${2}px; flex: none; }</style>"
        frame "$1" 1280 light; frame "$1" 1280 dark; frame "$1" 400 light; frame "$1" 400 dark
    } > "$1-views.html"
    "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
        --allow-file-access-from-files --user-data-dir="$work/profile" \
        --force-device-scale-factor=0.5 --window-size="3408,$2" \
        --screenshot="$here/report-$1.png" "file://$work/$1-views.html" 2> /dev/null
    echo "$here/report-$1.png: $(stat -c %s "$here/report-$1.png") bytes"
}

shot run 1900
shot sweep 1900
shot seeds 1900

#!/usr/bin/env bash
# The tables of glue.md: XGBLoRA, LoRA and the head alone on RTE and SST-2, three seeds each, and
# LoRA in PyTorch and PEFT beside them.
#
#   docs/experiments/glue.sh MODEL DATA [TASK]...
#
#   XGBRUN   the program                                   [target/release/xgbrun]
#   PEER     python with torch, transformers and peft      [python3]
#
# MODEL is a folder of a BERT, DATA one with RTE and SST-2 as their sources publish them. Results go
# to standard output, a line a run: task, seed, way, score.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
model="$1" data="$2"
shift 2
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- sst2 rte
for task in "$@"; do
    case "$task" in
        rte) folder="$data/RTE" layout=glue ;;
        sst2) folder="$data/SST-2" layout=source ;;
        cola) folder="$data/CoLA" layout=source ;;
        sick) folder="$data/SICK" layout=source ;;
        *) echo "no task \`$task\`" >&2; exit 2 ;;
    esac
    for seed in 0 1 2; do
        "${XGBRUN:-target/release/xgbrun}" recipes/glue.rhai -p model="$model" -p task="$task" \
            -p data="$folder" -p layout="$layout" -p lr=5e-4 --seed "$seed" --quiet \
            --out "$work/$task-$seed" 2>&1 |
            awk -v s="$seed" -v t="$task" '$1 == t { print t, s, $2, $3 }'
        case "$task" in
            rte | sst2)
                echo "$task $seed peft $(HF_HUB_OFFLINE=1 "${PEER:-python3}" \
                    docs/experiments/glue_peer.py "$model" "$folder" "$task" "$seed" 2>/dev/null)"
                ;;
        esac
    done
done

#!/usr/bin/env bash
# Compares two builds of xgbrun bit by bit: ten recipes run with each, and what they leave behind.
#
#     benches/identity.sh OLD NEW [MODELS]
#
# OLD and NEW are two binaries, MODELS a folder with more models to train on: folders in Hugging
# Face's format and .gguf files. It takes some 90 seconds on two idle cores, and 20 more for
# each model of 135 M weights.
#
# Prints a line for each recipe: what was compared, and `equal` or the first difference. Exits with
# 1 on a difference, and with 2 where OLD fails or an argument is wrong. Files of runs that differ
# are kept.
#
# Compared are exit codes, what a recipe printed, what `ask` and `eval` answered, and every file of
# the run folders and of what `export` wrote, byte for byte, but for what clocks, memory and places
# give:
#   JSON      the key `timing` anywhere, `begun` of run.json, `sum` of a journal's lines, which is
#             a checksum of the timing too
#   journal   records of kept states within a fit, which are as many as the clock says
#   HTML      elements of the class `timing`
# Journals of recipe 9 are left out, since names of files in them depend on when a state was kept,
# and so is what it printed, since a resume prints no line again. Its runs are also compared with
# the twin that was not killed; where both binaries are of one version, a run that was killed with
# OLD goes on with NEW. A script that stands for a binary must `exec` it, so that a kill reaches it.
# Text drawn by chance is in no recipe.
set -euo pipefail

if [[ $# -lt 2 || $# -gt 3 ]]; then
    echo "usage: benches/identity.sh OLD NEW [MODELS]" >&2
    exit 2
fi
for binary in "$1" "$2"; do
    if [[ ! -x $binary || -d $binary ]]; then
        echo "error: \`$binary\` is no program" >&2
        exit 2
    fi
done
old=$(realpath "$1")
new=$(realpath "$2")
models=${3:+$(realpath "$3")}
here=$(realpath "$(dirname "$0")")
recipes=$here/../recipes
failed=
versions_agree=
[[ $("$old" --version) != "$("$new" --version)" ]] || versions_agree=yes
temp=$(mktemp -d)
trap '[[ -n $failed ]] || rm -rf "$temp"' EXIT
mkdir "$temp/shared" "$temp/old" "$temp/new"
shared=../../shared # as a recipe's folder sees it

# --- What all recipes share -----------------------------------------------------------------------

# xgb NAME ARGUMENTS: one call of the binary under test; its output and exit code become files. What
# a run tells at its end has times in it, and is that of its summary, which is compared.
xgb() {
    local name=$1 code=0 told
    shift
    told=$name.out
    [[ $1 != *.rhai && $1 != --resume ]] || told=/dev/null
    "$binary" "$@" --threads 2 --quiet >"$told" 2>"$name.err" || code=$?
    echo "$code" >"$name.exit"
    if [[ $code -ne 0 && $side == old ]]; then
        echo "error: $PWD: xgbrun $* ended with $code" >&2
        cat "$name.err" >&2
        exit 2
    fi
}

write_recipes() {
    cat >"$temp/shared/short.rhai" <<'RHAI'
let p = params(#{ model: "builtin:micro", merge_mode: "exact", rank: 1, rounds: 3, steps: 3 });
let model = model::load(p.model, #{ merge_mode: p.merge_mode });
let task  = data::load("builtin:microworld/piqa", #{ template: "cloze" });
let s = sampler("layers");
model.evaluate(task.test, #{ items: 8 });
for round in 0..p.rounds {
    let b = model.booster(#{ layers: s.choose(model.layers, 2), rank: p.rank });
    b.fit(task.train, #{ steps: p.steps, clip: 1.0, l2: 1e-4, optimizer: adamw(#{ lr: 0.01 }) });
    model.merge(b, 0.8);
    print(model.digest());
}
model.evaluate(task.test, #{ items: 8 });
model.evaluate(task.test, #{ items: 8, protocol: "perplexity" });
print(model.norms());
print(model.generate("The owl", #{ max_tokens: 8 }));
model.save("model");
RHAI
    # Boosters that are merged, weighed, left out and taken back.
    cat >"$temp/shared/ensemble.rhai" <<'RHAI'
let p = params(#{ model: "builtin:micro", merge_mode: "exact", dense: true, rank: 2 });
let model = model::load(p.model, #{ merge_mode: p.merge_mode });
let task  = data::load("builtin:microworld/ARC-Easy", #{ template: "cloze" });
let s = sampler("layers");
let late = model.booster(#{ layers: [1, 2], rank: 1, init: "orthogonal", zero: "A" });
for round in 0..6 {
    let whole = p.dense && round == 3;
    let b = if whole {
        model.booster(#{ kind: "dense", layers: [0], norms: true, embedding: true })
    } else {
        model.booster(#{ layers: [0, 1 + round % 2], rank: p.rank, alpha: 3 * p.rank })
    };
    let rate = if whole { 1e-3 } else { 0.01 };
    b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: rate, weight_decay: 0.01 }) });
    late.fit(task.train, #{ steps: 1, optimizer: sgd(#{ lr: 0.1, momentum: 0.9 }) });
    let laid = if whole { #{ booster: b } } else { #{ booster: b, eta: 0.5 } };
    print(model.evaluate(task.test, laid + #{ items: 6 }).accuracy);
    model.merge(b, if round == 1 { 0.3 } else { 1.0 });
    print(`${round} ${model.digest()}`);
}
model.merge(late);
model.evaluate(task.test, #{ items: 12 });
let all = model.snapshot();
model.scale(2, 0.5);
model.drop(1);
print(model.digest());
model.slice(1, 5);
print(model.digest());
model.truncate(2);
model.evaluate(task.test, #{ items: 12 });
print(model.digest());
model.restore(all);
model.replay();
model.drop(0);
print(model.digest());
print(model.generate("What does the owl eat?", #{ max_tokens: 8 }));
model.save("model");
RHAI
    cat >"$temp/shared/adapter.rhai" <<'RHAI'
let p = params(#{ model: "builtin:micro", adapter: "", save: true });
let model = model::load(p.model);
let task  = data::load("builtin:microworld/piqa", #{ template: "cloze" });
let b = model.load_adapter(p.adapter);
print(model.evaluate(task.test, #{ items: 8, protocol: "perplexity", booster: b }).nll);
b.fit(task.train, #{ steps: 3, optimizer: adamw(#{ lr: 1e-3 }) });
if p.save { b.save("adapter"); }
model.merge(b);
model.evaluate(task.test, #{ items: 8 });
model.save("model");
RHAI
    cat >"$temp/shared/generate.rhai" <<'RHAI'
let p = params(#{ model: "builtin:micro", merge_mode: "exact" });
let model = model::load(p.model, #{ merge_mode: p.merge_mode });
let task  = data::load("builtin:microworld/social_i_qa", #{ template: "llm-adapters" });
let b = model.booster(#{ layers: model.layers, rank: 2 });
b.fit(task.train, #{ steps: 10, optimizer: adamw(#{ lr: 0.01 }) });
model.merge(b);
let prompts = ["The owl", "What does the dog like? The dog likes", "Noah"];
print(model.generate(prompts[0], #{ max_tokens: 24 }));
print(model.generate(prompts[1], #{ max_tokens: 24, beams: 4 }));
print(model.generate(prompts, #{ max_tokens: 16 }));
print(model.generate(prompts, #{ max_tokens: 16, beams: 3, stop: [".", "the"] }));
model.evaluate(task.test, #{ items: 8, protocol: "llm-adapters" });
RHAI
    # Eight short fits, a long one whose state is kept on the way, and boosters taken back.
    cat >"$temp/shared/resume.rhai" <<'RHAI'
let model = model::load("builtin:micro");
let task  = data::load("builtin:microworld/piqa", #{ template: "cloze" });
let s = sampler("layers");
for round in 0..8 {
    let b = model.booster(#{ layers: s.choose(model.layers, 3), rank: 2 });
    b.fit(task.train, #{ steps: 6, optimizer: adamw(#{ lr: 0.01 }) });
    print(model.evaluate(task.test, #{ items: 8 }).accuracy);
    model.merge(b);
}
let b = model.booster(#{ layers: model.layers, rank: 2 });
b.fit(task.train, #{ steps: 100, optimizer: adamw(#{ lr: 0.003 }) });
model.merge(b);
model.drop(3);
model.evaluate(task.test, #{ items: 8 });
model.save("model");
RHAI
    # Layers by what a probe measured, starts along the gradient, factors and layers that sit out.
    cat >"$temp/shared/kin.rhai" <<'RHAI'
let p = params(#{ model: "builtin:micro" });
let model = model::load(p.model);
let task  = data::load("builtin:microworld/piqa", #{ template: "cloze" });
let s = sampler("kin");
let before = ();
for round in 0..3 {
    let seen = model.probe(task.train, #{ batch: 2 });
    let layers = s.weighted(model.layers, seen.layers.map(|norm| norm * norm), 2);
    layers.sort();
    let b = model.booster(#{ layers: layers, rank: 2, zero: if round == 1 { "A" } else { "B" } });
    if round != 1 { b.align(task.train, #{ batch: 2 }); }
    if round == 2 { b.inherit(before, 0.5); }
    if before != () { model.merge(before); }
    b.fit(task.train, #{
        steps: 3, lr_ratio: 4.0, accumulate: 2, freeze: if round == 1 { "B" } else { "A" },
        recompute: if round == 2 { "on" } else { "off" },
        active: [[layers[0]], layers, [layers[1]]], optimizer: adamw(#{ lr: 0.02 }),
    });
    before = b;
    let hard = model.wrong(task.test, 8);
    print(`${round} ${seen} ${hard.len} ${model.norms()}`);
}
model.merge(before);
let single = model.booster(#{ pairs: [[0, "q_proj"], [2, "down_proj"]] });
single.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.01 }) });
model.merge(single);
let whole = model.booster(#{ kind: "dense", layers: [1], norms: true });
whole.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.001 }) });
model.merge(whole, 0.7);
print(model.digest());
model.evaluate(task.test, #{ items: 8 });
model.save("model");
RHAI
}

# What OLD alone makes: a model of the micro model's folder, GGUF files and an adapter.
make_shared() {
    local type
    xgb made short.rhai --out made
    for type in f32 bf16; do
        xgb gguf export made --gguf "micro-$type.gguf" --gguf-type "$type"
    done
    xgb peft export made --peft peft
    mv made/model micro
}

# export_all RUN: its model in every format that has one.
export_all() {
    xgb "$1-merged" export "$1" --merged "$1-merged"
    xgb "$1-gguf" export "$1" --gguf "$1.gguf"
}

# --- The ten recipes, each in a folder of its own -------------------------------------------------

recipe_01_low_rank_f32() {
    xgb run "$recipes/commonsense.rhai" --out run -p rounds=6 -p steps=3 -p items=10
    export_all run
    xgb peft export run --peft peft
    xgb sharded export run --merged sharded --round 3 --max-shard-mib 2
}

recipe_02_dense() {
    xgb badam "$recipes/badam.rhai" --out badam -p quick=true
    xgb full "$recipes/full.rhai" --out full -p quick=true -p head=true -p "model=$shared/llama"
    export_all full
}

recipe_03_bf16_exact() {
    xgb run "$shared/ensemble.rhai" --out run --dtype bf16
    export_all run
}

recipe_04_f16_naive() {
    xgb run "$shared/ensemble.rhai" --out run --dtype f16 -p merge_mode=naive
    export_all run
}

recipe_05_unmerged() {
    local type
    for type in bf16 f32; do
        # The rank of all boosters outgrows the width: their sum takes the place of the factors.
        xgb "$type" "$shared/ensemble.rhai" --out "$type" --dtype "$type" \
            -p merge_mode=none -p dense=false -p rank=24
        export_all "$type"
    done
    xgb peft export bf16 --peft peft
}

recipe_06_gguf() {
    local type
    for type in f32 bf16; do
        xgb "$type" "$shared/short.rhai" --out "$type" -p "model=$shared/micro-$type.gguf"
        export_all "$type"
    done
    xgb stored "$shared/short.rhai" --out stored --dtype bf16 -p "model=$shared/micro-bf16.gguf"
    xgb f16 export f32 --gguf f16.gguf --gguf-type f16
}

recipe_07_peft() {
    local name
    xgb peft "$shared/adapter.rhai" --out peft -p "adapter=$shared/peft"
    xgb peft-peft export peft --peft peft-peft
    xgb eval eval builtin:micro --adapter "$shared/peft" --data builtin:microworld/piqa \
        --items 8 --json
    for name in dora pissa olora; do
        xgb "$name" "$shared/adapter.rhai" --out "$name" -p "model=$shared/llama" \
            -p "adapter=$shared/$name" -p save=false
        xgb "$name-merged" export "$name" --merged "$name-merged"
    done
}

recipe_08_generation() {
    local type
    xgb f32 "$shared/generate.rhai" --out f32
    xgb bf16 "$shared/generate.rhai" --out bf16 --dtype bf16 -p merge_mode=none
    xgb window "$shared/generate.rhai" --out window -p "model=$shared/mistral"
    xgb choices ask f32 "What does the owl eat? Answer1: seeds Answer2: fish Answer3: meat"
    xgb text ask f32 "Tell me about the owl." --template none --rounds 0,1
    xgb eval eval builtin:micro --data builtin:microworld/boolq --template llm-adapters \
        --protocol llm-adapters --items 8 --json
    xgb perplexity eval builtin:micro --data builtin:microworld-text --items 20 --json
}

# killed BINARY OUT: a run that is killed twice: between fits, and in one whose state was kept.
killed() {
    local killer=$1 out=$2 pid mark
    set -- "$shared/resume.rhai" --out "$out"
    for mark in '"name":"model.merge"' '"checkpoint"'; do
        "$killer" "$@" --threads 2 --quiet --checkpoint 1 >/dev/null 2>&1 &
        pid=$!
        while kill -0 "$pid" 2>/dev/null && ! grep -qs "$mark" "$out/journal.jsonl"; do
            sleep 0.02
        done
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        if [[ -e $out/summary.json || ! -e $out/journal.jsonl ]]; then
            echo "$PWD/$out failed, or ended before it was killed" >"$out.killed"
        fi
        set -- --resume "$out"
    done
}

recipe_09_resume() {
    mkdir whole own
    xgb whole/run "$shared/resume.rhai" --out whole/run
    killed "$binary" own/run
    xgb own/run --resume own/run
    if [[ $side == new && -n $versions_agree ]]; then
        mkdir "$temp/across"
        killed "$old" "$temp/across/run"
        xgb "$temp/across/run" --resume "$temp/across/run"
    fi
    rm -f {whole,own,"$temp/across"}/run{/journal.jsonl,.err}
}

recipe_10_kin() {
    local name
    for name in qwen2 qwen3 mistral; do
        xgb "$name" "$shared/kin.rhai" --out "$name" -p "model=$shared/$name"
        xgb "$name-merged" export "$name" --merged "$name-merged"
        [[ $name != mistral ]] || continue # GGUF has no words for its window
        xgb "$name-gguf" export "$name" --gguf "$name.gguf"
        xgb "$name-again" "$shared/short.rhai" --out "$name-again" -p "model=$name.gguf"
    done
    xgb bf16 "$shared/kin.rhai" --out bf16 --dtype bf16
    xgb lisa "$recipes/lisa.rhai" --out lisa -p quick=true -p head=true -p "model=$shared/qwen3"
    xgb coto "$recipes/coto.rhai" --out coto -p quick=true
    xgb relora "$recipes/relora.rhai" --out relora -p quick=true
    xgb search "$recipes/line_search.rhai" --out search -p quick=true
}

# A model of MODELS.
recipe_model() {
    xgb run "$shared/short.rhai" --out run -p "model=$1"
    xgb eval eval "$1" --data builtin:microworld-text --items 2 --json
}

# --- All of them ----------------------------------------------------------------------------------

# both NAME [ARGUMENTS]: recipe NAME with OLD, then with NEW, and the comparison.
both() {
    local label=${label:-$1} place twins=()
    for side in old new; do
        binary=${!side}
        mkdir "$temp/$side/$label"
        (cd "$temp/$side/$label" && "recipe_$1" "${@:2}") || exit 2
    done
    # What a recipe did in other ways that come to the same.
    for place in "$temp/old/$label/own" "$temp/across"; do
        [[ ! -d $place || ! -d $temp/old/$label/whole ]] ||
            twins+=("$temp/old/$label/whole" "$place")
    done
    python3 "$here/identity.py" compare "$label" "$temp/old/$label" "$temp/new/$label" \
        "${twins[@]}" || failed=yes
}

write_recipes
side=old binary=$old
(cd "$temp/shared" && make_shared) || exit 2
python3 "$here/identity.py" models "$temp/shared"
echo "recipe | what was compared | equal, or the first difference"
for name in 01_low_rank_f32 02_dense 03_bf16_exact 04_f16_naive 05_unmerged 06_gguf 07_peft \
    08_generation 09_resume 10_kin; do
    both "$name"
done
for model in ${models:+"$models"/*}; do
    label=$(basename "$model") both model "$model"
done
if [[ -n $failed ]]; then
    echo "the files are kept in $temp"
    exit 1
fi

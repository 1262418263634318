//! Recipes whose runs are stopped and taken up, each behind the head that the harness gives.

/// Six rounds with all that a run does: boosters left unmerged, fits that go on, errors that are
/// caught, measurements that decide, boosters taken back.
pub const SIX: &str = r#"
let s = sampler("layers");
print(model.evaluate(task.test).accuracy);
let late = model.booster(#{ layers: [1], rank: 2 });
for round in 0..6 {
    let b = model.booster(#{ layers: s.choose(model.layers, 2), rank: 1 });
    let f = b.fit(task.train, #{ steps: 3, optimizer: adamw(#{ lr: 0.03 }) });
    print(`${round} ${f.mean_loss} ${f.gain}`);
    if round == 2 || round == 3 {
        late.fit(task.train, #{ steps: 2, optimizer: sgd(#{ lr: 0.1, momentum: 0.9 }) });
    }
    print(model.evaluate(task.test, #{ booster: b }).accuracy);
    try { model.merge(b, if round == 1 { 0.0 / 0.0 } else { 0.5 }); }
    catch (e) { print(e.message); model.merge(b); }
    try { model.merge(b); } catch (e) { print(e.message); }
    model.evaluate(task.test);
    if round == 3 { b.save("adapter"); }
    if round == 4 { model.drop(1); model.merge(late); print(model.digest()); }
}
model.save("before");
model.truncate(4);
let four = model.snapshot();
model.scale(0, 0.5);
model.restore(four);
model.evaluate(task.test);
print(model.generate("a b", #{ max_tokens: 3 }));
model.save("model");
"#;

/// Calls that fail at different depths and are caught; what they had begun leaves no trace.
pub const CAUGHT: &str = r#"
try { model::from_run(p.adapter); } catch (e) { print(e.message); }
let other = model::load("builtin:micro");
let all = [];
try { loop { all.push(other.booster(#{ kind: "dense", layers: other.layers, embedding: true })); } }
catch { print(all.len > 10); }
all = [];
let long = data::load(p.data, #{ template: "alpaca", max_length: 3 });
for round in 0..2 {
    for m in [model, other] {
        let b = m.booster(#{ layers: [round] });
        b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.03 }) });
        try { b.fit(long.train, #{ steps: 1, optimizer: adamw(#{ lr: 0.03 }) }); }
        catch (e) { print(e.message); }
        m.merge(b);
    }
}
print(model.digest() + other.digest());
model.save("model");
"#;

/// A sweep with seeds whose second rate diverges, rows of a table, texts on the way, predictions.
pub const SWEPT: &str = r#"
import "std/grid" as grid;
try { sweep::end(1); } catch (e) { print(e.message); }
let points = grid::sweep(#{ lr: [0.03, 5.0], seed: [0, 1] }, |point| {
    model.truncate(0);
    for round in 0..2 {
        let b = model.booster(#{ layers: [point.seed, 2] });
        b.fit(task.train, #{ steps: 4, optimizer: adamw(#{ lr: point.lr }) });
        model.merge(b);
        model.evaluate(task.test);
    }
    model.sample(["a b", "c"], #{ max_tokens: 3 });
    model.evaluate(task.test, #{ predictions: true }).accuracy
});
grid::table(points, ["lr", "result"]);
model.truncate(0);
model.evaluate(task.test, #{ predictions: true });
model.evaluate(task.test, #{ protocol: "perplexity", predictions: true });
model.save("model");
"#;

/// A policy that follows what it measured, with a loop whose end nobody knows.
pub const BANDIT: &str = r#"
let s = sampler("bandit");
let gains = [1.0, 1.0, 1.0];
let tries = 0;
let best = 0.0;
while best < 0.99 && tries < 5 {
    let layer = s.weighted(model.layers, gains, 1)[0];
    let b = model.booster(#{ layers: [layer] });
    let f = b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.02 }) });
    gains[layer] = 0.01 + if f.gain == () || f.gain < 0.0 { 0.0 } else { f.gain };
    let now = model.evaluate(task.test, #{ booster: b });
    if now.accuracy + s.uniform() * 0.3 >= best { model.merge(b); best = now.accuracy; }
    tries += 1;
}
model.evaluate(task.test);
model.save("model");
"#;

/// Whole tensors, one of them made before a merge and trained behind it, and two models.
pub const DENSE: &str = r#"
let other = model::load(p.model);
let early = model.booster(#{ kind: "dense", layers: [0], norms: true });
for round in 0..3 {
    let b = model.booster(#{ kind: "dense", layers: [round], embedding: round == 1 });
    b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.01 }) });
    model.merge(b, 0.7);
    let o = other.booster(#{ layers: [round] });
    o.fit(task.train, #{ steps: 1, optimizer: adamw(#{ lr: 0.01 }) });
    other.merge(o);
}
early.fit(task.train, #{ steps: 2, optimizer: sgd(#{ lr: 0.05 }) });
model.merge(early);
other.slice(1, 3);
print(other.digest());
model.evaluate(task.test);
model.save("model");
"#;

/// A fit that fails, is caught, and leaves a booster that is trained on.
pub const FAILS: &str = r#"
let b = model.booster(#{ layers: [0, 2] });
b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.01 }) });
let c = model.booster(#{ layers: [1] });
try { c.fit(task.train, #{ steps: 40, optimizer: sgd(#{ lr: 1e30 }) }); }
catch (e) { print(e.message); }
try { data::load("nowhere"); } catch (e) { print(e.message); }
b.fit(task.train, #{ steps: 2, optimizer: sgd(#{ lr: 0.01 }) });
model.merge(b);
print(model.digest());
model.save("model");
"#;

/// What kin methods do: layers by what a probe measured, starts along the gradient and with
/// inherited moments, factors and layers that sit out, single modules, training on what is wrong.
pub const KIN: &str = r#"
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
        steps: 3, lr_ratio: 4.0, freeze: if round == 1 { "B" } else { "A" },
        active: [[layers[0]], layers, [layers[1]]], optimizer: adamw(#{ lr: 0.02 }),
    });
    before = b;
    let hard = model.wrong(task.test, 4);
    print(`${round} ${seen.loss} ${hard.len} ${model.norms().layers}`);
}
model.merge(before);
let single = model.booster(#{ pairs: [[0, "q_proj"], [2, "down_proj"]] });
single.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.01 }) });
model.merge(single);
print(model.digest());
model.save("model");
"#;

/// Three rounds, of which two are taken back to: their sum is the same on every machine.
pub const KEPT: &str = r#"
for round in 0..3 {
    let b = model.booster(#{ layers: [round] });
    b.fit(task.train, #{ steps: 3, optimizer: adamw(#{ lr: 0.02 }) });
    model.merge(b);
    model.evaluate(task.test);
}
model.truncate(2);
print(model.digest());
"#;

/// Optimizers that no recipe above has.
pub const OPTIMIZERS: &str = r#"
let b = model.booster(#{ layers: [0, 2], rank: 2 });
b.fit(task.train, #{ steps: 3, optimizer: lion(#{ lr: 0.003, weight_decay: 0.1 }) });
model.merge(b);
let d = model.booster(#{ kind: "dense", layers: [1] });
d.fit(task.train, #{ steps: 3, optimizer: muon(#{ lr: 0.003, weight_decay: 0.1 }) });
model.merge(d);
print(model.digest());
model.save("model");
"#;

/// A classifier: boosters of factors with the head beside them, of the head alone, taken back,
/// weighed, and measured while they are not merged.
pub const HEADED: &str = r#"
model.head(#{ labels: ["answer2", "answer1"] });
print(model.labels);
print(model.evaluate(task.test).accuracy);
let s = sampler("layers");
let head = model.booster(#{ kind: "dense", head: true });
head.fit(task.train, #{ steps: 3, batch: 4, optimizer: sgd(#{ lr: 0.5 }) });
model.merge(head);
for round in 0..4 {
    let b = model.booster(#{ layers: s.choose(model.layers, 2), rank: 1, head: true });
    let f = b.fit(task.train, #{
        steps: 3, batch: 4, head_lr_ratio: 2.0, clip: 1.0, optimizer: adamw(#{ lr: 0.02 }),
    });
    print(`${round} ${f.mean_loss} ${f.gain}`);
    print(model.evaluate(task.test, #{ booster: b }).accuracy);
    model.merge(b, if round == 1 { 0.5 } else { 1.0 });
    if round == 2 { b = (); model.drop(1); print(model.digest()); }
}
model.scale(0, 0.5);
try { model.head(#{ labels: ["a", "b"] }); } catch (e) { print(e.message); }
try { model.generate("a b", #{ max_tokens: 3 }); } catch (e) { print(e.message); }
model.evaluate(task.test);
model.save("model");
model.truncate(2);
print(model.digest());
"#;

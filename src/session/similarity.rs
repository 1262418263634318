//! How much boosters of a model do the same.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::model::Model;
use crate::boost::Update;
use crate::error::error;
use crate::model::meta::Assume;

impl Model {
    /// The cosine between what the boosters `a` and `b`, counted from 0, added to the weights:
    /// `all`, and `targets` by name; null where one of them changed nothing. Errors (class usage):
    /// the model has no such booster.
    pub fn similarity(&self, a: usize, b: usize) -> Result<Map<String, Value>> {
        let (session, m) = (self.session(), self.state());
        let files = m.boosters.merged.files(&m.folder(session)?);
        let file = |number: usize| {
            files.get(number).map(|(path, _)| path).ok_or_else(|| {
                error!(Usage, "there is no booster {number}; the model has {}", files.len())
            })
        };
        let (a, b) = (file(a)?, file(b)?);
        let named = |all: Value, of: &dyn Fn(&str) -> Value| {
            let targets: Map<String, Value> =
                m.network.targets().into_iter().map(|t| (t.to_owned(), of(t))).collect();
            Map::from_iter([("all".into(), all), ("targets".into(), targets.into())])
        };
        if let Some(assume) = m.network.assume() {
            let value = json!(if assume == Assume::Best { 1.0 } else { 0.0 });
            return Ok(named(value.clone(), &|_| value.clone()));
        }
        let (a, b) = (Update::load(a, &m.network)?, Update::load(b, &m.network)?);
        let (both, aa, bb) = (a.overlap(&b)?, a.overlap(&a)?, b.overlap(&b)?);
        let cosine = |product: f64, squares: f64| {
            let cosine = product / squares.sqrt();
            json!(Some(cosine).filter(|cosine| cosine.is_finite()))
        };
        let of = |target: &str| {
            let of = |all: &std::collections::BTreeMap<&str, f64>| {
                all.get(target).copied().unwrap_or_default()
            };
            cosine(of(&both.targets), of(&aa.targets) * of(&bb.targets))
        };
        Ok(named(cosine(both.all, aa.all * bb.all), &of))
    }
}

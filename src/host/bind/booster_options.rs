//! The options of `model.booster`.

use rhai::Map;

use crate::boost::dense::Parts;
use crate::boost::{Init, Kind};
use crate::error::Error;
use crate::host::options::Options;

/// What `booster` is asked for.
pub(super) struct Asked {
    pub(super) layers: Vec<usize>,
    pub(super) targets: Vec<String>,
    pub(super) weak: Weak,
}

pub(super) enum Weak {
    LowRank { rank: usize, alpha: Option<f64>, init: Init },
    Dense(Parts),
}

/// Reads them. Errors (class usage): an option of another kind of booster, or one of the wrong type.
pub(super) fn parse(map: Map) -> anyhow::Result<Asked> {
    let first = |names: [&'static str; 3]| names.into_iter().find(|name| map.contains_key(*name));
    let (low_rank, dense) = (first(["rank", "alpha", "init"]), first(["embedding", "norms", "head"]));
    let mut o = Options::new("booster", map, &["layers", "targets", "kind", "rank", "alpha", "init", "embedding", "norms", "head"])?;
    let kind = Kind::from_name(&o.take_or("kind", Kind::LowRank.name().to_string())?)?;
    let (other, hint) = match kind {
        Kind::LowRank => (dense, "it trains whole weights: add `kind: \"dense\"`"),
        Kind::Dense => (low_rank, "a dense booster has no factors: it trains whole weights"),
    };
    if let Some(name) = other {
        return Err(Error::usage(format!("option `{name}` is not for boosters of kind `{}`", kind.name())).hint(hint).into());
    }
    let targets = o.take_or("targets", vec![])?;
    let (layers, weak) = match kind {
        Kind::LowRank => {
            let init = Init::from_name(&o.take_or("init", Init::NAMES[0].to_string())?)?;
            (o.take("layers")?, Weak::LowRank { rank: o.take_or("rank", 1)?, alpha: o.take_opt("alpha")?, init })
        }
        Kind::Dense => {
            let mut part = |name| o.take_or(name, false);
            let parts = Parts { embedding: part("embedding")?, norms: part("norms")?, head: part("head")? };
            (o.take_or("layers", vec![])?, Weak::Dense(parts))
        }
    };
    Ok(Asked { layers, targets, weak })
}

//! The options of `model.booster`.

use rhai::{Dynamic, Map};

use crate::boost::dense::DenseParts;
use crate::boost::{BoosterKind, Init};
use crate::error::Error;
use crate::host::options::{FromOption, Mismatch, Options};
use crate::session::{BoosterOptions, Learner};
use crate::train::Factor;

/// Reads them. Errors (class usage): an option of another kind of booster, or one of the wrong
/// type.
pub(super) fn parse(map: Map) -> anyhow::Result<BoosterOptions> {
    let first = |names: &[&'static str]| names.iter().copied().find(|name| map.contains_key(*name));
    let (low_rank, dense) = (
        first(&["pairs", "rank", "alpha", "init", "zero"]),
        first(&["embedding", "norms", "head"]),
    );
    let product = first(&["layers", "targets"]);
    let mut o = Options::new(
        "booster",
        map,
        &[
            "layers",
            "targets",
            "pairs",
            "kind",
            "rank",
            "alpha",
            "init",
            "zero",
            "embedding",
            "norms",
            "head",
        ],
    )?;
    let kind =
        BoosterKind::from_name(&o.take_or("kind", BoosterKind::LowRank.name().to_string())?)?;
    let (other, hint) = match kind {
        BoosterKind::LowRank => (dense, "it trains whole weights: add `kind: \"dense\"`"),
        BoosterKind::FullRank => {
            (low_rank, "a dense booster has no factors: it trains whole weights")
        }
    };
    if let Some(name) = other {
        return Err(Error::usage(format!(
            "option `{name}` is not for boosters of kind `{}`",
            kind.name()
        ))
        .hint(hint)
        .into());
    }
    let targets = o.take_or("targets", vec![])?;
    let mut pairs = None;
    let (layers, learner) = match kind {
        BoosterKind::LowRank => {
            let init = Init::from_name(&o.take_or("init", Init::NAMES[0].to_string())?)?;
            let name: String = o.take_or("zero", "B".into())?;
            let zero = Factor::from_name(&name);
            o.check("zero", zero.is_some(), "\"A\" or \"B\"", format!("{name:?}"))?;
            pairs = o
                .take_opt::<Vec<Single>>("pairs")?
                .map(|all| all.into_iter().map(|Single(layer, target)| (layer, target)).collect());
            if let (Some(name), true) = (product, pairs.is_some()) {
                return Err(Error::usage(format!(
                    "`pairs` names every module itself: leave out `{name}`"
                ))
                .into());
            }
            let layers = if pairs.is_some() { vec![] } else { o.take("layers")? };
            let zero = zero.unwrap_or(Factor::B);
            (
                layers,
                Learner::LowRank {
                    rank: o.take_or("rank", 1)?,
                    alpha: o.take_opt("alpha")?,
                    init,
                    zero,
                },
            )
        }
        BoosterKind::FullRank => {
            let mut part = |name| o.take_or(name, false);
            let parts = DenseParts {
                embedding: part("embedding")?,
                norms: part("norms")?,
                head: part("head")?,
            };
            (o.take_or("layers", vec![])?, Learner::Dense(parts))
        }
    };
    Ok(BoosterOptions { layers, targets, pairs, learner })
}

/// A layer and a target.
struct Single(usize, String);

impl FromOption for Single {
    const WHAT: &'static str = "a layer and a target, such as [3, \"q_proj\"]";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        let wrong = || Mismatch::new::<Self>(value, key);
        let pair = value.as_array_ref().map_err(|_| wrong())?;
        let [layer, target] = &pair[..] else { return Err(wrong()) };
        Ok(Self(
            usize::from_option(layer, &format!("{key}[0]"))?,
            String::from_option(target, &format!("{key}[1]"))?,
        ))
    }
}

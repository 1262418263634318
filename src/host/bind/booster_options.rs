//! The options of `model.booster`.

use rhai::{Dynamic, Map};

use crate::boost::dense::DenseParts;
use crate::boost::{BoosterKind, Init};
use crate::error::{Error, bail, error};
use crate::host::options::{FromOption, Mismatch, Options};
use crate::session::{BoosterOptions, Learner};
use crate::train::Factor;

pub(super) const KEYS: [&str; 11] = [
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
];
/// Of single modules or of products of layers and targets, and of each kind alone.
const PRODUCT: [&str; 2] = ["layers", "targets"];
const LOW_RANK: [&str; 5] = ["pairs", "rank", "alpha", "init", "zero"];
const DENSE: [&str; 2] = ["embedding", "norms"];

/// Reads them. Errors (class usage): an option of another kind of booster, or one of the wrong
/// type.
pub(super) fn parse(map: Map) -> anyhow::Result<BoosterOptions> {
    let first = |names: &[&'static str]| names.iter().copied().find(|name| map.contains_key(*name));
    let (low_rank, dense, product) = (first(&LOW_RANK), first(&DENSE), first(&PRODUCT));
    let mut o = Options::new("booster", map, &KEYS)?;
    let kind =
        BoosterKind::from_name(&o.take_or("kind", BoosterKind::LowRank.name().to_string())?)?;
    match kind {
        BoosterKind::LowRank => {
            not_of(kind, dense, "it trains whole weights: add `kind: \"dense\"`")?;
            low_rank_options(o, product)
        }
        BoosterKind::FullRank => {
            not_of(kind, low_rank, "a dense booster has no factors: it trains whole weights")?;
            dense_options(o)
        }
    }
}

/// Errors (class usage) where `other` is an option of another kind.
fn not_of(kind: BoosterKind, other: Option<&str>, hint: &str) -> Result<(), Error> {
    let Some(name) = other else { return Ok(()) };
    let kind = kind.name();
    Err(error!(Usage, "option `{name}` is not for boosters of kind `{kind}`").hint(hint))
}

/// The options of a booster of low rank; `product` is an option that names several modules.
fn low_rank_options(mut o: Options, product: Option<&str>) -> anyhow::Result<BoosterOptions> {
    let targets = o.take_or("targets", vec![])?;
    let init = Init::from_name(&o.take_or("init", Init::NAMES[0].to_string())?)?;
    let name: String = o.take_or("zero", "B".into())?;
    let zero = Factor::from_name(&name);
    o.check("zero", zero.is_some(), "\"A\" or \"B\"", format!("{name:?}"))?;
    let pairs: Option<Vec<(usize, String)>> = o
        .take_opt::<Vec<Single>>("pairs")?
        .map(|all| all.into_iter().map(|Single(layer, target)| (layer, target)).collect());
    if let (Some(name), true) = (product, pairs.is_some()) {
        bail!(Usage, "`pairs` names every module itself: leave out `{name}`");
    }
    let layers = if pairs.is_some() { vec![] } else { o.take("layers")? };
    let (rank, alpha, zero) =
        (o.take_or("rank", 1)?, o.take_opt("alpha")?, zero.unwrap_or(Factor::B));
    let head = o.take_or("head", false)?;
    let learner = Learner::LowRank { rank, alpha, init, zero, head };
    Ok(BoosterOptions { layers, targets, pairs, learner })
}

/// The options of a dense booster.
fn dense_options(mut o: Options) -> anyhow::Result<BoosterOptions> {
    let targets = o.take_or("targets", vec![])?;
    let mut part = |name| o.take_or(name, false);
    let parts =
        DenseParts { embedding: part("embedding")?, norms: part("norms")?, head: part("head")? };
    let layers = o.take_or("layers", vec![])?;
    Ok(BoosterOptions { layers, targets, pairs: None, learner: Learner::Dense(parts) })
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

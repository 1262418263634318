//! Rows of token ids, with what counts in the loss: as this program writes them, as `transformers`
//! collates them, and as TRL keeps them.

use anyhow::Result;
use serde_json::Value;

use super::fields::RecordFields;
use super::kind;
use crate::data::item::{ItemPlace, TokenRow};
use crate::error::bail;

pub(super) const EXPECTED: &str = "expected is `{\"ids\": [token ids], \"mask_first\": number}`";

/// Keys that a slip of the pen may have meant.
pub(super) const SLIPS: [&str; 5] = ["ids", "mask_first", "input_ids", "labels", "attention_mask"];

/// What `transformers` writes where a token counts in no loss.
const IGNORED: i64 = -100;

/// `mask_first`, 0 where it is missing, says how many tokens at the front count in no loss;
/// `labels` are the ids once more, or -100 where a token does not count; `completion_mask` and
/// `assistant_masks` are 1 where it does. Several masks are one: what all of them leave.
pub(super) fn tokens(fields: &mut RecordFields) -> Result<TokenRow> {
    let place = fields.place.clone();
    let (key, list) = match (fields.list("ids")?, fields.list("input_ids")?) {
        (Some(_), Some(_)) => bail!(Data, "{place} has `ids` and `input_ids`; {EXPECTED}"),
        (Some(list), None) => ("ids", list),
        (None, Some(list)) => ("input_ids", list),
        (None, None) => bail!(Data, "{place} has no `ids`; {EXPECTED}"),
    };
    let mut ids = list
        .iter()
        .enumerate()
        .map(|(i, value)| id(&place, key, i, value))
        .collect::<Result<Vec<u32>>>()?;
    let mut supervised = vec![true; ids.len()];
    supervised[..mask_first(fields, ids.len())?].fill(false);
    let masks = [
        labels(fields, key, &ids)?,
        flags(fields, "completion_mask", ids.len())?,
        flags(fields, "assistant_masks", ids.len())?,
    ];
    for mask in masks.into_iter().flatten() {
        supervised.iter_mut().zip(mask).for_each(|(counts, one)| *counts &= one);
    }
    if let Some(seen) = flags(fields, "attention_mask", ids.len())? {
        let (start, end) = unpadded(&place, &seen, &supervised)?;
        (ids, supervised) = (ids[start..end].to_vec(), supervised[start..end].to_vec());
    }
    packed(fields, ids.len())?;
    Ok(TokenRow { place, ids, supervised })
}

/// From where to where tokens are seen. What is padded must not be learnt, since it is left out.
fn unpadded(place: &ItemPlace, seen: &[bool], supervised: &[bool]) -> Result<(usize, usize)> {
    let start = seen.iter().position(|seen| *seen).unwrap_or(seen.len());
    let end = seen.iter().rposition(|seen| *seen).map_or(start, |last| last + 1);
    if let Some(hole) = seen[start..end].iter().position(|seen| !seen) {
        bail!(
            Data,
            "{place}: `attention_mask[{}]` is 0 between tokens that are seen, which is not done \
             here",
            start + hole
        );
    }
    let learnt = |range: std::ops::Range<usize>| range.into_iter().find(|&i| supervised[i]);
    if let Some(i) = learnt(0..start).or_else(|| learnt(end..seen.len())) {
        bail!(
            Data,
            "{place}: token {i} is padding (`attention_mask` 0) and counts in the loss";
            hint: "its label is -100 where padding is not learnt; or leave the padding out"
        );
    }
    Ok((start, end))
}

/// Keys that say how rows were packed: a row is one sequence here.
fn packed(fields: &mut RecordFields, length: usize) -> Result<()> {
    let place = fields.place;
    let whole = |list: &[i64]| list.iter().enumerate().all(|(i, at)| usize::try_from(*at) == Ok(i));
    if let Some(list) = fields.list("position_ids")?
        && !whole(&integers(place, "position_ids", &list)?)
    {
        bail!(
            Data,
            "{place}: `position_ids` are not 0, 1, 2, …: several sequences in one row are not read"
        );
    }
    if let Some(list) = fields.list("token_type_ids")?
        && integers(place, "token_type_ids", &list)?.iter().any(|kind| *kind != 0)
    {
        bail!(Data, "{place}: `token_type_ids` are not all 0, which the models here do not know");
    }
    if let Some(list) = fields.list("seq_lengths")? {
        let lengths = integers(place, "seq_lengths", &list)?;
        if lengths.len() > 1 || lengths.first().is_some_and(|n| usize::try_from(*n) != Ok(length)) {
            bail!(
                Data,
                "{place}: `seq_lengths` divides the row into several sequences, which are not \
                 read; write one a row"
            );
        }
    }
    fields.list("special_tokens_mask").map(|_| ())
}

fn mask_first(fields: &mut RecordFields, length: usize) -> Result<usize> {
    let Some(value) = fields.take("mask_first") else { return Ok(0) };
    let place = fields.place;
    match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
        Some(n) if n <= length => Ok(n),
        Some(n) => {
            bail!(Data, "{place}: `mask_first` is {n}, more than the row has ids ({length})")
        }
        None => bail!(Data, "{place}: `mask_first` is {value}, expected a whole number"),
    }
}

/// Which tokens have a label: their id once more, which the record has under `key`.
fn labels(fields: &mut RecordFields, key: &str, ids: &[u32]) -> Result<Option<Vec<bool>>> {
    let place = fields.place;
    let Some(labels) = numbers(fields, "labels", ids.len())? else { return Ok(None) };
    for (i, (label, id)) in labels.iter().zip(ids).enumerate() {
        if *label != IGNORED && *label != i64::from(*id) {
            bail!(
                Data,
                "{place}: `labels[{i}]` is {label}, expected `{key}[{i}]`, which is {id}, or \
                 {IGNORED}"
            );
        }
    }
    Ok(Some(labels.iter().map(|label| *label != IGNORED).collect()))
}

/// A list of whole numbers, as many as there are ids.
fn numbers(fields: &mut RecordFields, key: &str, length: usize) -> Result<Option<Vec<i64>>> {
    let Some(list) = fields.list(key)? else { return Ok(None) };
    let place = fields.place;
    if list.len() != length {
        bail!(Data, "{place}: `{key}` holds {} numbers, and the row has {length} ids", list.len());
    }
    integers(place, key, &list).map(Some)
}

fn integers(place: &ItemPlace, key: &str, list: &[Value]) -> Result<Vec<i64>> {
    let number = |(i, value): (usize, &Value)| match value.as_i64() {
        Some(number) => Ok(number),
        None => bail!(Data, "{place}: `{key}[{i}]` is {}, expected a whole number", kind(value)),
    };
    list.iter().enumerate().map(number).collect()
}

fn flags(fields: &mut RecordFields, key: &str, length: usize) -> Result<Option<Vec<bool>>> {
    let place = fields.place;
    let Some(numbers) = numbers(fields, key, length)? else { return Ok(None) };
    let flag = |(i, number): (usize, &i64)| match number {
        0 | 1 => Ok(*number == 1),
        _ => bail!(Data, "{place}: `{key}[{i}]` is {number}, expected 0 or 1"),
    };
    numbers.iter().enumerate().map(flag).collect::<Result<_>>().map(Some)
}

fn id(place: &ItemPlace, key: &str, i: usize, value: &Value) -> Result<u32> {
    match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok(id),
        None if value.is_number() => bail!(
            Data,
            "{place}: `{key}[{i}]` is {value}, ids are whole numbers from 0 to {}",
            u32::MAX
        ),
        None => bail!(Data, "{place}: `{key}[{i}]` is {}, expected a token id", kind(value)),
    }
}

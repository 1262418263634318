//! What the engine's packages do without a bound, or with a panic or a lock that never opens, done
//! again with one.

use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, Map, NativeCallContext, Position,
};

use super::options::type_name;
use crate::error::Error;
use crate::host::script_error::{Answer, to_script};
use crate::session::Limits;

fn refuse(message: impl Into<String>) -> Box<EvalAltResult> {
    to_script(&Error::usage(message).into())
}

pub(super) fn register(engine: &mut Engine, limits: &Limits) {
    let most = limits.string;
    // `replace` in the engine makes the text first and measures it afterwards.
    engine.register_fn("replace", move |text: &mut ImmutableString, find: &str, other: &str| {
        replaced(text, find, other, most)
    });
    engine.register_fn("replace", move |text: &mut ImmutableString, find: char, other: &str| {
        replaced(text, find.encode_utf8(&mut [0; 4]), other, most)
    });
    engine.register_fn("replace", move |text: &mut ImmutableString, find: &str, other: char| {
        replaced(text, find, other.encode_utf8(&mut [0; 4]), most)
    });
    engine.register_fn("replace", move |text: &mut ImmutableString, find: char, other: char| {
        replaced(text, find.encode_utf8(&mut [0; 4]), other.encode_utf8(&mut [0; 4]), most)
    });
    // A function in a map may hold the map itself, whose lock the engine would wait for.
    engine.register_fn("to_json", |map: &mut Map| -> Answer<String> {
        if map.values().any(holds_function) {
            return Err(refuse("a map with a function in it cannot be written as JSON"));
        }
        Ok(rhai::format_map_as_json(map))
    });
    let sort = |context: NativeCallContext, list: &mut Array, compare: FnPtr| -> Answer<()> {
        let sorted = sorted(list, &mut |a: &Dynamic, b: &Dynamic| {
            let order: Dynamic = compare.call_within_context(&context, (a.clone(), b.clone()))?;
            match order.as_int() {
                Ok(order) => Ok(order <= 0),
                Err(_) => Err(refuse(format!(
                    "a function that `sort` compares with must answer with a whole number, found \
                     {}",
                    type_name(&order)
                ))),
            }
        })?;
        *list = sorted;
        Ok(())
    };
    engine.register_fn("sort", sort);
}

/// Whether a function lies in it; values that are shared are not looked into, since they may be
/// locked.
fn holds_function(value: &Dynamic) -> bool {
    if value.is_shared() || value.is_fnptr() {
        return true;
    }
    if let Ok(map) = value.as_map_ref() {
        return map.values().any(holds_function);
    }
    value.as_array_ref().is_ok_and(|list| list.iter().any(holds_function))
}

fn replaced(text: &mut ImmutableString, find: &str, other: &str, most: usize) -> Answer<()> {
    if find.is_empty() {
        return Err(refuse("`replace` cannot look for an empty text"));
    }
    let count = text.matches(find).count();
    let size = text.len() - count * find.len() + count.saturating_mul(other.len());
    if size > most {
        return Err(
            EvalAltResult::ErrorDataTooLarge("Length of string".into(), Position::NONE).into()
        );
    }
    if count > 0 {
        *text = text.replace(find, other).into();
    }
    Ok(())
}

/// Merge sort, stable; it ends whatever `ordered` says, and with its first error.
fn sorted(
    list: &[Dynamic],
    ordered: &mut dyn FnMut(&Dynamic, &Dynamic) -> Answer<bool>,
) -> Answer<Array> {
    if list.len() < 2 {
        return Ok(list.to_vec());
    }
    let (left, right) = list.split_at(list.len() / 2);
    let (left, right) = (sorted(left, ordered)?, sorted(right, ordered)?);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut all = Array::with_capacity(list.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        all.extend(if ordered(a, b)? { left.next() } else { right.next() });
    }
    all.extend(left);
    all.extend(right);
    Ok(all)
}

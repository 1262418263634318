//! Functions as messages and the reference show them.

use rhai::{FuncInfo, ScriptFnMetadata};

/// A function as messages show it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    /// The module it is in, or empty.
    pub namespace: String,
    pub name: String,
    /// Name and type of each parameter; functions of a script have no types.
    pub params: Vec<(String, String)>,
    /// Called as `value.name(…)`.
    pub method: bool,
    /// The type of its answer, where that is known.
    pub returns: String,
}

impl Signature {
    /// A function that a script defines.
    pub fn of_script(f: &ScriptFnMetadata) -> Self {
        let params = f.params.iter().map(|p| ((*p).to_owned(), String::new())).collect();
        Self {
            namespace: String::new(),
            name: f.name.into(),
            params,
            method: false,
            returns: String::new(),
        }
    }

    /// A function that the program offers.
    pub fn of_native(f: &FuncInfo) -> Self {
        let params: Vec<(String, String)> = (f.metadata.params_info.iter())
            .map(|p| p.split_once(':').unwrap_or((p.as_str(), "")))
            .map(|(name, kind)| (name.trim().to_owned(), friendly(kind)))
            // The context is the engine's, not the caller's.
            .filter(|(_, kind)| kind != "NativeCallContext")
            .collect();
        let method = f.metadata.params_info.first().is_some_and(|p| p.contains("&mut"));
        Self {
            namespace: f.namespace.to_string(),
            name: f.metadata.name.to_string(),
            params,
            method,
            returns: friendly(answer(&f.metadata.return_type)),
        }
    }

    /// `sampler.choose(list: array, k: int)`.
    pub fn show(&self, namespace: &str) -> String {
        let show = |(name, kind): &(String, String)| match kind.as_str() {
            "" => name.clone(),
            kind => format!("{name}: {kind}"),
        };
        let rest = self
            .params
            .iter()
            .skip(usize::from(self.method))
            .map(show)
            .collect::<Vec<_>>()
            .join(", ");
        match self.params.first() {
            Some((_, kind)) if self.method => format!("{kind}.{}({rest})", self.name),
            _ if namespace.is_empty() => format!("{}({rest})", self.name),
            _ => format!("{namespace}::{}({rest})", self.name),
        }
    }
}

/// What a native answers with where nothing goes wrong: `T` of `Answer<T>` or `Result<T, …>`.
fn answer(kind: &str) -> &str {
    match kind.split_once('<') {
        Some((outer, inside)) if ["Answer", "Result"].contains(&last_part(outer)) => {
            let depth = |at: usize| {
                inside[..at].matches(['<', '(']).count() - inside[..at].matches(['>', ')']).count()
            };
            let mut ends = inside.match_indices([',', '>']).map(|(at, _)| at);
            &inside[..ends.find(|&at| depth(at) == 0).unwrap_or(inside.len())]
        }
        _ => kind,
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path).trim()
}

/// A Rust or engine type as recipes know it.
pub fn friendly(kind: &str) -> String {
    let kind = kind.trim().trim_start_matches("&mut ").trim_start_matches('&').trim();
    let last = kind.rsplit("::").next().unwrap_or(kind);
    match last {
        "INT" | "i64" => "int",
        "FLOAT" | "f64" => "float",
        "str" | "ImmutableString" | "String" | "string" => "string",
        "Array" | "array" => "array",
        "Map" | "map" => "map",
        "Blob" | "blob" => "blob",
        "FnPtr" | "Fn" => "function",
        "Dynamic" => "any",
        "NativeCallContext" => return last.into(),
        other => return other.to_lowercase(),
    }
    .into()
}

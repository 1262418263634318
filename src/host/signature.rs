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
}

impl Signature {
    /// A function that a script defines.
    pub fn of_script(f: &ScriptFnMetadata) -> Self {
        let params = f.params.iter().map(|p| ((*p).to_owned(), String::new())).collect();
        Self { namespace: String::new(), name: f.name.into(), params, method: false }
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

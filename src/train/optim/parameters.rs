//! Which tensors an optimizer can step.

use crate::error::{Error, error};
use crate::model::{Adapter, ParamKind};

/// The parameters that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    All,
    /// Weight matrices inside layers, as dense boosters have: no vectors, embedding, head, factors.
    HiddenMatrices,
}

impl Parameters {
    /// Errors (class usage): a tensor of `adapter` that the rule called `rule` cannot step.
    pub fn check(self, rule: &str, adapter: &Adapter) -> Result<(), Error> {
        if self == Self::All {
            return Ok(());
        }
        if let Some(linear) = adapter.pairs().keys().next() {
            return Err(error!(
                Usage,
                "`{rule}` steps whole weight matrices, not factors of low rank, as on `{}` of \
                 layer {}",
                linear.target,
                linear.layer;
                hint: "make the booster with `kind: \"dense\"`, or take `adamw`"
            ));
        }
        match adapter.full().keys().find(|id| !matches!(id.kind, ParamKind::Weight(_))) {
            None => Ok(()),
            Some(id) => Err(error!(
                Usage,
                "`{rule}` steps matrices inside layers only, not `{id}` of shape {:?}",
                id.shape;
                hint: "leave `norms`, `embedding` and `head` out, name `targets` without biases, \
                       or take `adamw`"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use candle_core::DType;

    use super::*;
    use crate::model::{ParamId, testing};

    #[test]
    fn what_cannot_be_stepped_is_named() -> Result<()> {
        let model = testing::model(&testing::with(|c| c.qkv_bias = true), DType::F32)?;
        let said = |adapter: &Adapter| {
            assert!(Parameters::All.check("adamw", adapter).is_ok());
            Parameters::HiddenMatrices.check("muon", adapter).err().map(|e| e.message)
        };
        let full = |name: &str| -> Result<Option<String>> {
            let ids = [name, "model.layers.2.mlp.up_proj.weight"];
            let ids = ids.map(|name| model.param(name).unwrap().clone());
            let tensor = |id: &ParamId| (id.clone(), model.tensor(id).unwrap().clone());
            Ok(said(&Adapter::of_full(ids.iter().map(tensor).collect())))
        };
        assert_eq!(full("model.layers.1.self_attn.q_proj.weight")?, None);
        for (name, shape) in [
            ("model.layers.1.self_attn.q_proj.bias", &[16][..]),
            ("model.layers.1.input_layernorm.weight", &[12]),
            ("model.embed_tokens.weight", &[13, 12]),
            ("lm_head.weight", &[13, 12]),
        ] {
            let want = format!(
                "`muon` steps matrices inside layers only, not `{name}` of shape {shape:?}"
            );
            assert_eq!(full(name)?.unwrap(), want);
        }
        assert_eq!(
            said(&testing::adapter(&model, &[2], false)?).unwrap(),
            "`muon` steps whole weight matrices, not factors of low rank, as on `q_proj` of layer 2"
        );
        Ok(())
    }
}

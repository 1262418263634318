//! Which tensors an optimizer can step.

use candle_core::Tensor;

use crate::error::Error;
use crate::model::{Adapter, names};

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
        if let Some((layer, role)) = adapter.pairs().keys().next() {
            return Err(Error::usage(format!(
                "`{rule}` steps whole weight matrices, not factors of low rank, as on `{role}` of \
                 layer {layer}"
            ))
            .hint("make the booster with `kind: \"dense\"`, or take `adamw`"));
        }
        let fits =
            |name: &str, tensor: &Tensor| names::layer_of(name).is_some() && tensor.rank() == 2;
        match adapter.dense().iter().find(|(name, tensor)| !fits(name, tensor)) {
            None => Ok(()),
            Some((name, tensor)) => Err(Error::usage(format!(
                "`{rule}` steps matrices inside layers only, not `{name}` of shape {:?}",
                tensor.dims()
            ))
            .hint(
                "leave `norms`, `embedding` and `head` out, name `targets` without biases, or \
                 take `adamw`",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{DType, Device, Result};

    use super::*;
    use crate::model::Role;
    use crate::ops::linear::LoraPair;

    #[test]
    fn what_cannot_be_stepped_is_named() -> Result<()> {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let said = |adapter: &Adapter| {
            assert!(Parameters::All.check("adamw", adapter).is_ok());
            Parameters::HiddenMatrices.check("muon", adapter).err().map(|e| e.message)
        };
        let dense = |name: &str, shape: &[usize]| -> Result<Option<String>> {
            let mut tensors = BTreeMap::from([(name.to_owned(), zeros(shape)?)]);
            let matrix = names::in_layer(2, "mlp.up_proj.weight");
            tensors.insert(matrix, zeros(&[4, 2])?);
            Ok(said(&Adapter::replacing(tensors)))
        };
        assert_eq!(dense("model.layers.1.self_attn.q_proj.weight", &[2, 2])?, None);
        for (name, shape) in [
            ("model.layers.1.self_attn.q_proj.bias", &[2][..]),
            ("model.layers.1.input_layernorm.weight", &[2]),
            (names::EMBEDDING, &[9, 2]),
            (names::HEAD, &[9, 2]),
        ] {
            assert_eq!(
                dense(name, shape)?.unwrap(),
                format!(
                    "`muon` steps matrices inside layers only, not `{name}` of shape {shape:?}"
                )
            );
        }
        let pair = LoraPair { a: zeros(&[1, 2])?, b: zeros(&[2, 1])?, scale: 1.0 };
        assert_eq!(
            said(&Adapter::new(BTreeMap::from([((3, Role::Up), pair)]))).unwrap(),
            "`muon` steps whole weight matrices, not factors of low rank, as on `up_proj` of \
             layer 3"
        );
        Ok(())
    }
}

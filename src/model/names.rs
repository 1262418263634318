//! Published names of tensors and targets, as the Hugging Face files of the Llama family use them.

use std::fmt;

pub const EMBEDDING: &str = "model.embed_tokens.weight";
pub const NORM: &str = "model.norm";
pub const HEAD: &str = "lm_head.weight";

/// `model.layers.{layer}.{name}`.
pub fn in_layer(layer: usize, name: &str) -> String {
    format!("model.layers.{layer}.{name}")
}

/// The layer that a tensor belongs to; None of the embedding, the final norm and the head.
pub fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.split_once('.')?.0.parse().ok()
}

/// The part that a linear module plays in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Role {
    /// In the order of the computation.
    pub const ALL: [Role; 7] =
        [Role::Q, Role::K, Role::V, Role::O, Role::Gate, Role::Up, Role::Down];

    /// The target's name: `q_proj` … `down_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Q => "q_proj",
            Role::K => "k_proj",
            Role::V => "v_proj",
            Role::O => "o_proj",
            Role::Gate => "gate_proj",
            Role::Up => "up_proj",
            Role::Down => "down_proj",
        }
    }

    /// The role that a target's name means.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }

    /// The module's path inside its layer: `self_attn.q_proj`.
    pub fn path(self) -> &'static str {
        match self {
            Role::Q => "self_attn.q_proj",
            Role::K => "self_attn.k_proj",
            Role::V => "self_attn.v_proj",
            Role::O => "self_attn.o_proj",
            Role::Gate => "mlp.gate_proj",
            Role::Up => "mlp.up_proj",
            Role::Down => "mlp.down_proj",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! What the first block reads: rows of the token table.

use candle_core::{DType, Result, Tensor};

use super::{ForwardContext, GradRequest, Gradients};
use crate::model::params::ParamId;
use crate::ops::embedding;

pub struct Embeddings {
    /// [V, D]
    pub tokens: ParamId,
}

impl Embeddings {
    /// x [N, D], in `compute`, of tokens [N].
    pub fn forward(&self, ids: &[u32], ctx: &ForwardContext, compute: DType) -> Result<Tensor> {
        let table = ctx.tensor(&self.tokens);
        embedding::forward(&Tensor::new(ids, table.device())?, table, compute)
    }

    /// Whether anything of it is trained.
    pub fn trained(&self, request: &GradRequest) -> bool {
        request.wants(&self.tokens)
    }

    /// The gradient of its own numbers from dx [N, D].
    pub fn backward(&self, dx: &Tensor, ids: &[u32], out: &mut Gradients) -> Result<()> {
        let index = Tensor::new(ids, dx.device())?;
        out.add(&self.tokens, embedding::backward(&index, dx, self.tokens.shape[0])?)
    }
}

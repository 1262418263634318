//! What the first block reads: rows of the token table, and of a position table where there is one.

use candle_core::{DType, Device, Result, Tensor};

use super::{ForwardContext, GradRequest, Gradients};
use crate::model::params::ParamId;
use crate::ops::embedding;

pub struct Embeddings {
    /// [V, D]
    pub tokens: ParamId,
    /// [P, D]: learned positions.
    pub positions: Option<ParamId>,
}

impl Embeddings {
    fn tables<'a>(
        &'a self,
        ids: &'a [u32],
        positions: &'a [u32],
    ) -> impl Iterator<Item = (&'a ParamId, &'a [u32])> {
        let positions = self.positions.iter().map(move |table| (table, positions));
        std::iter::once((&self.tokens, ids)).chain(positions)
    }

    /// x [N, D], in `compute`, of tokens at their positions `[N]`.
    pub fn forward(
        &self,
        ids: &[u32],
        positions: &[u32],
        ctx: &ForwardContext,
        compute: DType,
    ) -> Result<Tensor> {
        let row = |(table, rows): (&ParamId, &[u32])| {
            let table = ctx.tensor(table);
            embedding::forward(&Tensor::new(rows, table.device())?, table, compute)
        };
        let mut all = self.tables(ids, positions).map(row);
        let first = all.next().unwrap_or_else(|| Tensor::zeros(0, compute, &Device::Cpu));
        all.try_fold(first?, |sum, next| sum + next?)
    }

    /// Whether anything of it is trained.
    pub fn trained(&self, request: &GradRequest) -> bool {
        self.tables(&[], &[]).any(|(table, _)| request.wants(table))
    }

    /// The gradients of its own numbers from dx [N, D].
    pub fn backward(
        &self,
        dx: &Tensor,
        (ids, positions): (&[u32], &[u32]),
        request: &GradRequest,
        out: &mut Gradients,
    ) -> Result<()> {
        for (table, rows) in self.tables(ids, positions).filter(|(table, _)| request.wants(table)) {
            let index = Tensor::new(rows, dx.device())?;
            out.add(table, embedding::backward(&index, dx, table.shape[0])?)?;
        }
        Ok(())
    }
}

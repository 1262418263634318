//! What the first block reads: rows of the token table, and of position and type tables where there
//! are some, and their norm.

use candle_core::{DType, Device, Result, Tensor};

use super::{ForwardContext, GradRequest, Gradients, Norm};
use crate::model::params::ParamId;
use crate::model::tokens::Tokens;
use crate::ops::embedding;

pub struct Embeddings {
    /// [V, D]
    pub tokens: ParamId,
    /// [P, D]: learned positions.
    pub positions: Option<ParamId>,
    /// The row of the first position.
    pub position_offset: u32,
    /// [T, D]: which part of its sequence a token belongs to (`token_type_ids`).
    pub types: Option<ParamId>,
    /// Of the sum.
    pub norm: Option<Norm>,
}

impl Embeddings {
    /// Of tokens alone.
    pub fn of_tokens(tokens: ParamId) -> Self {
        Self { tokens, positions: None, position_offset: 0, types: None, norm: None }
    }

    /// The tables, each with the row of every token.
    fn tables<'a>(&'a self, tokens: &'a Tokens) -> Vec<(&'a ParamId, Vec<u32>)> {
        let mut all = vec![(&self.tokens, tokens.ids.clone())];
        if let Some(table) = &self.positions {
            let rows = tokens.positions.iter().map(|at| at + self.position_offset);
            all.push((table, rows.collect()));
        }
        if let Some(table) = &self.types {
            let rows = match tokens.types.is_empty() || table.shape[0] == 1 {
                true => vec![0; tokens.ids.len()],
                false => tokens.types.clone(),
            };
            all.push((table, rows));
        }
        all
    }

    /// The sum of a token's rows [N, D], in `compute`.
    fn sum(&self, tokens: &Tokens, ctx: &ForwardContext, compute: DType) -> Result<Tensor> {
        let row = |(table, rows): (&ParamId, Vec<u32>)| {
            let table = ctx.tensor(table);
            embedding::forward(&Tensor::new(rows, table.device())?, table, compute)
        };
        let mut all = self.tables(tokens).into_iter().map(row);
        let first = all.next().unwrap_or_else(|| Tensor::zeros(0, compute, &Device::Cpu));
        all.try_fold(first?, |sum, next| sum + next?)
    }

    /// x [N, D], in `compute`.
    pub fn forward(&self, tokens: &Tokens, ctx: &ForwardContext, compute: DType) -> Result<Tensor> {
        let sum = self.sum(tokens, ctx, compute)?;
        match &self.norm {
            Some(norm) => norm.forward(&sum, ctx),
            None => Ok(sum),
        }
    }

    /// Whether anything of it is trained.
    pub fn trained(&self, request: &GradRequest) -> bool {
        let tables = [Some(&self.tokens), self.positions.as_ref(), self.types.as_ref()];
        tables.into_iter().flatten().any(|table| request.wants(table))
            || self.norm.as_ref().is_some_and(|norm| norm.trained(request))
    }

    /// The gradients of its own numbers from dx [N, D]; the norm's input is formed again.
    pub fn backward(
        &self,
        dx: &Tensor,
        tokens: &Tokens,
        (ctx, request): (&ForwardContext, &GradRequest),
        out: &mut Gradients,
    ) -> Result<()> {
        let below = match &self.norm {
            Some(norm) => {
                let sum = self.sum(tokens, ctx, dx.dtype())?;
                norm.backward(dx, &sum, ctx, request, out)?
            }
            None => dx.clone(),
        };
        for (table, rows) in self.tables(tokens).iter().filter(|(table, _)| request.wants(table)) {
            let index = Tensor::new(rows.as_slice(), dx.device())?;
            out.add(table, embedding::backward(&index, &below, table.shape[0])?)?;
        }
        Ok(())
    }
}

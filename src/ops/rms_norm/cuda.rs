//! RMSNorm on a GPU: candle's fused kernel, which forms sums in f32. It has the forward only, and
//! wants w in the type of x, whose numbers a norm's weights have (they are kept in f32).

use candle_core::{Result, Tensor};

pub fn forward(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    candle_nn::ops::rms_norm(x, &w.to_dtype(x.dtype())?, eps as f32)
}

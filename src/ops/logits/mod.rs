//! Losses of logits that exist as a whole: of few classes, of a number, of an item's choices.
//!
//! ```text
//! classes    loss = ln Σ e^z − z[target]       dz = weight · (softmax(z) − onehot(target))
//! numbers    loss = (z − target)²              dz = weight · 2 (z − target)
//! choices    as classes, over the one z of each of an item's rows
//! ```
//!
//! They are small, so the definition on candle tensors is all there is.

use candle_core::{D, DType, Result, Tensor, bail};

use super::accumulator;
use super::later::Later;

/// What is wanted of rows of logits.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// Tokens or classes `[S]`.
    Classes(&'a [u32]),
    /// Numbers `[S]`.
    Numbers(&'a [f64]),
    /// Rows are the choices of items: item i has rows `starts[i]` to `starts[i + 1]`, of which the
    /// `right[i]`-th, from 0, is right.
    Choices { starts: &'a [usize], right: &'a [u32] },
}

impl<'a, T: AsRef<[u32]> + ?Sized> From<&'a T> for Targets<'a> {
    fn from(classes: &'a T) -> Self {
        Self::Classes(classes.as_ref())
    }
}

impl Targets<'_> {
    /// Losses that they give.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Numbers(numbers) => numbers.len(),
            Self::Choices { right, .. } => right.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// z [S, K], or [S, 1] of numbers and choices → losses, in nats or squared, and dz of
/// Σ weight · loss.
pub fn loss(z: &Tensor, targets: Targets, weight: f64) -> Result<(Later, Tensor)> {
    let (wide, columns) = (z.to_dtype(accumulator(z.dtype()))?, z.dim(1)?);
    let (losses, dz) = match targets {
        Targets::Classes(classes) => of_classes(&wide, classes, weight)?,
        _ if columns != 1 => bail!("a number or a choice has one logit, not {columns}"),
        Targets::Numbers(numbers) => {
            let wanted = Tensor::new(numbers, z.device())?.to_dtype(wide.dtype())?.unsqueeze(1)?;
            let apart = (&wide - wanted)?;
            (apart.sqr()?, (apart * (2.0 * weight))?)
        }
        Targets::Choices { starts, right } => {
            let (mut losses, mut dz) = (vec![], vec![]);
            for (item, right) in starts.windows(2).zip(right) {
                let own = wide.narrow(0, item[0], item[1] - item[0])?.t()?;
                let (loss, d) = of_classes(&own, &[*right], weight)?;
                losses.push(loss);
                dz.push(d.t()?);
            }
            (Tensor::cat(&losses, 0)?, Tensor::cat(&dz, 0)?.contiguous()?)
        }
    };
    let losses = losses.flatten_all()?.to_dtype(DType::F64)?;
    let losses = match z.device().is_cpu() {
        true => Later::Here(losses.to_vec1()?),
        false => Later::OnDevice(losses),
    };
    Ok((losses, dz.to_dtype(z.dtype())?))
}

/// Losses [S, 1] and dz [S, K].
fn of_classes(z: &Tensor, classes: &[u32], weight: f64) -> Result<(Tensor, Tensor)> {
    let index = Tensor::new(classes, z.device())?.unsqueeze(1)?;
    let top = z.max_keepdim(D::Minus1)?;
    let e = z.broadcast_sub(&top)?.exp()?;
    let total = e.sum_keepdim(D::Minus1)?;
    let losses = ((total.log()? + top)? - z.contiguous()?.gather(&index, 1)?)?;
    let ones = Tensor::ones(index.shape(), z.dtype(), z.device())?;
    let hot = Tensor::zeros(z.shape(), z.dtype(), z.device())?.scatter_add(&index, &ones, 1)?;
    Ok((losses, ((e.broadcast_div(&total)? - hot)? * weight)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }

    /// Central differences of Σ 0.5 · loss.
    fn agrees(z: &[f64], shape: (usize, usize), targets: Targets) -> Result<()> {
        let sum = |z: &[f64]| -> Result<f64> {
            let z = Tensor::new(z, &Device::Cpu)?.reshape(shape)?;
            Ok(loss(&z, targets, 0.5)?.0.wait()?.iter().sum::<f64>() * 0.5)
        };
        let (_, dz) = loss(&Tensor::new(z, &Device::Cpu)?.reshape(shape)?, targets, 0.5)?;
        for (i, got) in dz.flatten_all()?.to_vec1::<f64>()?.into_iter().enumerate() {
            let moved = |by: f64| {
                let mut z = z.to_vec();
                z[i] += by;
                sum(&z)
            };
            near(got, (moved(1e-4)? - moved(-1e-4)?) / 2e-4);
        }
        Ok(())
    }

    #[test]
    fn losses_by_hand_and_gradients_by_differences() -> Result<()> {
        let z = [0.0, 1.0, -2.0, 0.5, 0.25, 3.0];
        let losses = |targets, shape: (usize, usize)| -> Result<Vec<f64>> {
            let z = Tensor::new(&z, &Device::Cpu)?.reshape(shape)?;
            loss(&z, targets, 1.0)?.0.wait()
        };
        let classes = Targets::Classes(&[1, 0]);
        let of = |z: &[f64], right: usize| z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[right];
        let got = losses(classes, (2, 3))?;
        near(got[0], of(&z[..3], 1));
        near(got[1], of(&z[3..], 0));
        agrees(&z, (2, 3), classes)?;
        let numbers = Targets::Numbers(&[1.0, 1.0, 0.0, 0.5, 0.0, 1.0]);
        assert_eq!(losses(numbers, (6, 1))?, [1.0, 0.0, 4.0, 0.0, 0.0625, 4.0]);
        agrees(&z, (6, 1), numbers)?;
        let choices = Targets::Choices { starts: &[0, 2, 6], right: &[0, 3] };
        let got = losses(choices, (6, 1))?;
        near(got[0], of(&z[..2], 0));
        near(got[1], of(&z[2..], 3));
        agrees(&z, (6, 1), choices)?;
        assert!(losses(choices, (3, 2)).is_err());
        Ok(())
    }
}

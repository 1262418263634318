//! Numbers for the host that a device may still be at work on.

use candle_core::{Result, Tensor};

/// f64 numbers `[n]`, here or on a device that has not been waited for.
pub enum Later {
    Here(Vec<f64>),
    OnDevice(Tensor),
}

impl Later {
    /// The numbers; a device is waited for until all that goes before is done.
    pub fn wait(self) -> Result<Vec<f64>> {
        match self {
            Self::Here(numbers) => Ok(numbers),
            Self::OnDevice(numbers) => numbers.to_vec1(),
        }
    }

    /// Their sum divided by `count`, as one number.
    pub fn mean_over(self, count: usize) -> Result<Self> {
        Ok(match self {
            Self::Here(numbers) => Self::Here(vec![numbers.iter().sum::<f64>() / count as f64]),
            Self::OnDevice(numbers) => {
                Self::OnDevice((numbers.sum_all()? / count as f64)?.reshape(1)?)
            }
        })
    }

    /// The sum of the numbers of all, which lie on one device, as one number.
    pub fn sum(all: Vec<Self>) -> Result<Self> {
        Ok(match Self::joined(all)? {
            Self::Here(numbers) => Self::Here(vec![numbers.iter().sum()]),
            Self::OnDevice(numbers) => Self::OnDevice(numbers.sum_all()?.reshape(1)?),
        })
    }

    /// The numbers of all, one after the other. Those that are here stay so, others lie on one
    /// device.
    pub fn joined(all: Vec<Self>) -> Result<Self> {
        let tensors: Vec<&Tensor> = all.iter().filter_map(Self::on_device).collect();
        if !tensors.is_empty() && tensors.len() == all.len() {
            return Tensor::cat(&tensors, 0).map(Self::OnDevice);
        }
        let numbers = all.into_iter().map(Self::wait).collect::<Result<Vec<_>>>()?;
        Ok(Self::Here(numbers.concat()))
    }

    /// The square root of their sum, as one number.
    pub fn root_of_sum(self) -> Result<Self> {
        Ok(match self {
            Self::Here(numbers) => Self::Here(vec![numbers.iter().sum::<f64>().sqrt()]),
            Self::OnDevice(numbers) => Self::OnDevice(numbers.sum_all()?.sqrt()?.reshape(1)?),
        })
    }

    /// What lies on one device, waited for once: the numbers of all, one after the other.
    pub fn wait_for_all(all: Vec<Self>) -> Result<Vec<f64>> {
        Self::joined(all)?.wait()
    }

    fn on_device(&self) -> Option<&Tensor> {
        match self {
            Self::Here(_) => None,
            Self::OnDevice(numbers) => Some(numbers),
        }
    }
}

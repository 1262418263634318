//! What steps and measurements cost: floating-point operations by formula, seconds by a short
//! calibration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::{Adapter, Config, Model, Request, Role, Tokens, create};
use crate::ops::attention::Segment;
use crate::ops::linear::LoraPair;
use crate::seed::Stream;

/// Tokens that go through the network, and what is asked of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// N
    pub tokens: usize,
    /// S, those whose prediction is wanted.
    pub rows: usize,
    /// (query, key) pairs of the attention, over all sequences.
    pub pairs: usize,
}

impl Work {
    /// What tokens and the rows wanted of them are.
    pub fn of(tokens: &Tokens, rows: usize) -> Self {
        // A query sees the context, and of its own segment the half that lies before it.
        let pairs = |s: &Segment| {
            s.queries.len() * s.prefix_keys.len() + s.queries.len() * (s.self_keys.len() + 1) / 2
        };
        Self { tokens: tokens.ids.len(), rows, pairs: tokens.segments.iter().map(pairs).sum() }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            rows: self.rows + other.rows,
            pairs: self.pairs + other.pairs,
        }
    }

    /// The larger of each.
    pub fn or(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            rows: self.rows.max(other.rows),
            pairs: self.pairs.max(other.pairs),
        }
    }
}

/// Weights of a layer's linears.
pub fn layer_weights(config: &Config) -> usize {
    let roles = Role::ALL.into_iter().filter(|r| config.gated || *r != Role::Gate);
    roles.map(|r| config.linear_shape(r)).map(|(out, inner)| out * inner).sum()
}

/// Operations of a forward pass: 2 for each weight and token, 4 E H for each pair of a query and a
/// key, 2 D V for each row of logits.
pub fn forward_flops(config: &Config, work: Work) -> f64 {
    let layer =
        2 * layer_weights(config) * work.tokens + 4 * config.heads * config.head_width * work.pairs;
    (config.layers * layer) as f64 + (2 * config.width * config.vocabulary * work.rows) as f64
}

/// Operations of a backward pass down to layer `lowest`: those of the forward pass of these layers
/// once for the gradient of activations (attention needs twice its own), the gradient of the head's
/// input, and 2 for each token and number that `dense` weights hold.
pub fn backward_flops(config: &Config, work: Work, lowest: usize, dense: usize) -> f64 {
    let layers = config.layers.saturating_sub(lowest);
    let layer =
        2 * layer_weights(config) * work.tokens + 8 * config.heads * config.head_width * work.pairs;
    (layers * layer) as f64
        + (2 * config.width * config.vocabulary * work.rows) as f64
        + (2 * dense * work.tokens) as f64
}

/// Seconds that work takes on this machine, taken from a model of the same sizes with two layers.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of a layer in a pass, whatever its size.
    fixed: f64,
    /// And backward.
    fixed_backward: f64,
    /// A token through one layer, forward.
    forward: f64,
    /// And backward, its inputs' gradient.
    backward: f64,
    /// And backward, with the gradients of the layer's weights.
    dense: f64,
    /// A row of logits, forward, with its loss.
    row: f64,
    /// And with the gradient of its input.
    row_backward: f64,
}

/// Layers of the model that is timed.
const LAYERS: usize = 2;

impl Rates {
    /// Times a few passes of `tokens` tokens in sequences of `length`, for about `budget` in all.
    pub fn measure(
        config: &Config,
        storage: DType,
        device: &Device,
        tokens: usize,
        length: usize,
        budget: Duration,
    ) -> Result<Self> {
        let small = Config { layers: LAYERS.min(config.layers), ..config.clone() };
        let layers = small.layers;
        let model = create::filled(small, device, storage)?;
        let length = length.min(config.max_positions).max(2);
        let sequences = (tokens / length).max(1);
        let starts: Vec<usize> = (0..=sequences).map(|i| i * length).collect();
        let n = sequences * length;
        let mut stream = Stream::new(0, "calibration");
        let ids: Vec<u32> = (0..n).map(|_| stream.below(config.vocabulary) as u32).collect();
        let flat = Tokens::sequences(ids, &starts);
        let rows: Vec<usize> = (0..n - 1).collect();
        let many = rows.len().min(n / 4).max(1);
        let none = Adapter::default();
        let on_last = adapter(&model, layers - 1)?;
        let on_first = adapter(&model, 0)?;
        let dense: BTreeSet<String> = model
            .tensors()
            .into_iter()
            .map(|(name, _)| name)
            .filter(|n| n.contains(".0.") && n.contains("proj"))
            .collect();
        let nothing = BTreeSet::new();

        let forward = |rows: &[usize]| -> Result<()> {
            model.nll(&flat, rows, &vec![0; rows.len()], &none).map(drop)
        };
        let backward =
            |rows: &[usize], adapter: &Adapter, dense: &BTreeSet<String>| -> Result<()> {
                let request = Request { adapter, dense, gradient_checkpointing: false };
                model.gradients(&flat, rows, &vec![0; rows.len()], 1.0, &request).map(drop)
            };
        let few = &rows[..1];
        let tiny = Tokens::one(vec![0, 0]);
        let jobs: [&dyn Fn() -> Result<()>; 8] = [
            &|| model.nll(&tiny, &[0], &[0], &none).map(drop),
            &|| forward(few),
            &|| forward(&rows[..many]),
            &|| backward(few, &on_last, &nothing),
            &|| backward(&rows[..many], &on_last, &nothing),
            &|| backward(few, &on_first, &nothing),
            &|| backward(few, &none, &dense),
            &|| {
                let request =
                    Request { adapter: &on_first, dense: &nothing, gradient_checkpointing: false };
                model.gradients(&tiny, &[0], &[0], 1.0, &request).map(drop)
            },
        ];
        let mut seconds: [Vec<f64>; 8] = Default::default();
        let begun = Instant::now();
        for round in 0.. {
            for (job, seconds) in jobs.iter().zip(&mut seconds) {
                let start = Instant::now();
                job()?;
                seconds.push(start.elapsed().as_secs_f64());
            }
            // One stretch that another program disturbs must not decide.
            if (round > 3 && begun.elapsed() > budget) || begun.elapsed() > budget * 4 {
                break;
            }
        }
        // The median: the first rounds meet cold caches, and what disturbs some of them disturbs
        // some steps of a run too.
        let [
            pass,
            few_forward,
            many_forward,
            last_back,
            last_many,
            first_back,
            dense_back,
            tiny_back,
        ] = seconds.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 2]
        });
        let (n, l, extra) = (n as f64, layers as f64, (many - 1).max(1) as f64);
        let a_layer = (few_forward - pass).max(0.0) / n / l;
        let fixed_backward = (tiny_back - pass).max(0.0) / l;
        let below = if layers > 1 {
            (first_back - last_back).max(0.0)
        } else {
            (first_back - few_forward).max(0.0)
        };
        Ok(Self {
            fixed: pass / l,
            fixed_backward,
            forward: a_layer,
            backward: (below - fixed_backward).max(0.0) / n,
            dense: ((dense_back - few_forward).max(0.0) / n / l).max(below / n),
            row: (many_forward - few_forward).max(0.0) / extra,
            row_backward: (last_many - last_back).max(0.0) / extra,
        })
    }

    /// Seconds of a measurement: forward passes only, in so many batches.
    pub fn forward_seconds(&self, config: &Config, work: Work, passes: usize) -> f64 {
        let layers = config.layers as f64;
        layers * (self.fixed * passes as f64 + work.tokens as f64 * self.forward)
            + work.rows as f64 * self.row
    }

    /// Seconds of training steps down to layer `lowest`, in so many batches; `dense` where whole
    /// layers are trained.
    pub fn step_seconds(
        &self,
        config: &Config,
        work: Work,
        passes: usize,
        lowest: usize,
        dense: bool,
    ) -> f64 {
        let above = config.layers.saturating_sub(lowest) as f64;
        let backward = if dense { self.dense } else { self.backward };
        passes as f64 * (self.fixed * config.layers as f64 + self.fixed_backward * above)
            + work.tokens as f64 * (self.forward * config.layers as f64 + backward * above)
            + work.rows as f64 * self.row_backward
    }
}

/// Pairs of rank 1 on all targets of a layer.
fn adapter(model: &Model, layer: usize) -> Result<Adapter> {
    let pair = |role: Role| -> Result<((usize, Role), LoraPair)> {
        let (out, inner) = model.target_shape(role);
        let zeros = |shape| Tensor::zeros(shape, model.factor_dtype(), model.device());
        Ok(((layer, role), LoraPair { a: zeros((1, inner))?, b: zeros((out, 1))?, scale: 1.0 }))
    };
    Ok(Adapter::new(model.roles().into_iter().map(pair).collect::<Result<BTreeMap<_, _>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    #[test]
    fn operations_are_those_counted_by_hand() {
        // D 12, F 10, H 4, G 2, E 4, V 13, three layers: q 192, k and v 96 each, o 192, gate, up
        // and down 120 each.
        let config = testing::config();
        assert_eq!(layer_weights(&config), 192 + 2 * 96 + 192 + 3 * 120);
        let work = Work::of(&Tokens::sequences(vec![0; 5], &[0, 3, 5]), 2);
        assert_eq!(work, Work { tokens: 5, rows: 2, pairs: 6 + 3 });
        let layer = 2 * 936 * 5 + 4 * 16 * 9;
        let head = 2 * 12 * 13 * 2;
        assert_eq!(forward_flops(&config, work), (3 * layer + head) as f64);
        let backward = 2 * 936 * 5 + 8 * 16 * 9;
        assert_eq!(
            backward_flops(&config, work, 1, 936),
            (2 * backward + head + 2 * 936 * 5) as f64
        );
        assert_eq!(backward_flops(&config, work, 3, 0), head as f64);
    }

    #[test]
    fn rates_grow_with_the_work() -> Result<()> {
        let config = Config { max_positions: 1, ..testing::config() };
        let rates = Rates::measure(&config, DType::F32, &Device::Cpu, 64, 8, Duration::ZERO)?;
        let work = Work { tokens: 100, rows: 10, pairs: 100 };
        let twice = work.and(work);
        assert!(rates.fixed > 0.0 && rates.forward_seconds(&config, work, 1) >= rates.fixed);
        assert!(
            rates.forward_seconds(&config, twice, 2)
                >= 2.0 * rates.forward_seconds(&config, work, 1) * 0.999
        );
        assert!(
            rates.step_seconds(&config, work, 1, 0, false)
                >= rates.step_seconds(&config, work, 1, 2, false)
        );
        Ok(())
    }
}

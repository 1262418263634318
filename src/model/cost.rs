//! What steps and measurements cost: floating-point operations by formula, seconds by a short
//! calibration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::nn::block::BlockCost;
use super::{
    Adapter, Architecture, GradRequest, HeadConfig, LinearId, Model, ParamId, Tokens, create,
};
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
    /// Queries times keys of the sequence where that is most.
    pub longest: usize,
}

impl Work {
    /// What tokens and the rows wanted of them are.
    pub fn of(tokens: &Tokens, rows: usize) -> Self {
        // A query sees the context, and of its own segment the half that lies before it.
        let pairs = |s: &Segment| {
            s.queries.len() * s.prefix_keys.len() + s.queries.len() * (s.self_keys.len() + 1) / 2
        };
        let keys = |s: &Segment| s.prefix_keys.len() + s.self_keys.len();
        Self {
            tokens: tokens.ids.len(),
            rows,
            pairs: tokens.segments.iter().map(pairs).sum(),
            longest: tokens.segments.iter().map(|s| s.queries.len() * keys(s)).max().unwrap_or(0),
        }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            rows: self.rows + other.rows,
            pairs: self.pairs + other.pairs,
            longest: self.longest.max(other.longest),
        }
    }

    /// All of a run, of which this is the part that `done` of `all` batches made.
    pub fn extended(self, done: usize, all: usize) -> Self {
        let of = |n: usize| (n as f64 * all as f64 / done.max(1) as f64) as usize;
        let longest = self.longest;
        Self { tokens: of(self.tokens), rows: of(self.rows), pairs: of(self.pairs), longest }
    }

    /// What this has more than `other`.
    pub fn less(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            rows: self.rows.saturating_sub(other.rows),
            pairs: self.pairs.saturating_sub(other.pairs),
            longest: self.longest,
        }
    }

    /// The larger of each.
    pub fn or(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            rows: self.rows.max(other.rows),
            pairs: self.pairs.max(other.pairs),
            longest: self.longest.max(other.longest),
        }
    }
}

/// What passes through a network cost.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkCost {
    pub blocks: Vec<BlockCost>,
    /// D
    pub hidden_size: usize,
    /// V, or the logits of another head.
    pub vocab_size: usize,
    /// Copies of a chunk of logits that exist at a time.
    pub logit_copies: usize,
}

impl NetworkCost {
    /// Operations of a forward pass: 2 for each weight and token, 4 for each product of a pair of a
    /// query and a key, 2 D V for each row of logits.
    pub fn forward_flops(&self, work: Work) -> f64 {
        let block = |b: &BlockCost| 2 * b.weights * work.tokens + 4 * b.pair_products * work.pairs;
        self.blocks.iter().map(block).sum::<usize>() as f64 + self.head_flops(work)
    }

    /// Operations of a backward pass down to layer `lowest`: those of the forward pass of these
    /// layers once for the gradient of activations (attention needs twice its own), the gradient of
    /// the head's input, and 2 for each token and number that `full` tensors hold.
    pub fn backward_flops(&self, work: Work, lowest: usize, full: usize) -> f64 {
        let block = |b: &BlockCost| 2 * b.weights * work.tokens + 8 * b.pair_products * work.pairs;
        let blocks = self.blocks.iter().skip(lowest).map(block).sum::<usize>();
        blocks as f64 + self.head_flops(work) + (2 * full * work.tokens) as f64
    }

    fn head_flops(&self, work: Work) -> f64 {
        (2 * self.hidden_size * self.vocab_size * work.rows) as f64
    }
}

impl Model {
    /// What passes through it cost.
    pub fn cost(&self) -> NetworkCost {
        let config = self.config();
        let blocks = self.network.blocks.iter().map(|block| block.cost(config.hidden_size));
        // z, its exponentiated copy, the target's one, p, their difference and dz, where no op
        // works on them in place.
        let logit_copies = if config.head == HeadConfig::MaskedLm { 6 } else { 1 };
        NetworkCost {
            logit_copies,
            blocks: blocks.collect(),
            hidden_size: config.hidden_size,
            vocab_size: match &config.head {
                HeadConfig::CausalLm | HeadConfig::MaskedLm => config.vocab_size,
                HeadConfig::Sequence(sequence) => sequence.outputs(),
                HeadConfig::MultipleChoice => 1,
                HeadConfig::Base => 0,
            },
        }
    }
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
    full: f64,
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
        architecture: &dyn Architecture,
        storage: DType,
        device: &Device,
        (tokens, length): (usize, usize),
        budget: Duration,
    ) -> Result<Self> {
        let bench = Bench::new(architecture, storage, device, (tokens, length))?;
        let seconds = timed(&bench.jobs()?, budget)?;
        Ok(bench.rates(seconds))
    }

    /// Seconds of a measurement: forward passes only, in so many batches.
    pub fn forward_seconds(&self, layers: usize, work: Work, passes: usize) -> f64 {
        let layers = layers as f64;
        layers * (self.fixed * passes as f64 + work.tokens as f64 * self.forward)
            + work.rows as f64 * self.row
    }

    /// Seconds of training steps down to layer `lowest`, in so many batches; `dense` where whole
    /// layers are trained.
    pub fn step_seconds(
        &self,
        layers: usize,
        work: Work,
        passes: usize,
        lowest: usize,
        full: bool,
    ) -> f64 {
        let above = layers.saturating_sub(lowest) as f64;
        let backward = if full { self.full } else { self.backward };
        passes as f64 * (self.fixed * layers as f64 + self.fixed_backward * above)
            + work.tokens as f64 * (self.forward * layers as f64 + backward * above)
            + work.rows as f64 * self.row_backward
    }
}

/// Passes that are timed.
const JOBS: usize = 8;

/// A small model with the layers of a large one, and the passes that are timed on it.
struct Bench {
    model: Model,
    flat: Tokens,
    tiny: Tokens,
    rows: Vec<usize>,
    /// Rows of a pass with many.
    many: usize,
    none: Adapter,
    on_last: Adapter,
    on_first: Adapter,
    /// The weights of the first layer.
    full: BTreeSet<ParamId>,
    nothing: BTreeSet<ParamId>,
}

type Job<'a> = Box<dyn Fn() -> Result<()> + 'a>;

/// Seconds that each job takes, from rounds of all of them for about `budget`.
fn timed(jobs: &[Job; JOBS], budget: Duration) -> Result<[f64; JOBS]> {
    let mut seconds: [Vec<f64>; JOBS] = Default::default();
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
    // The median: the first rounds meet cold caches, and what disturbs some of them disturbs some
    // steps of a run too.
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    Ok(seconds.map(median))
}

fn random_tokens(sequences: usize, length: usize, vocab_size: usize) -> Tokens {
    let cu_seqlens: Vec<usize> = (0..=sequences).map(|i| i * length).collect();
    let mut stream = Stream::new(0, "calibration");
    let ids = (0..sequences * length).map(|_| stream.below(vocab_size) as u32).collect();
    Tokens::sequences(ids, &cu_seqlens)
}

impl Bench {
    fn new(
        architecture: &dyn Architecture,
        storage: DType,
        device: &Device,
        (tokens, length): (usize, usize),
    ) -> Result<Self> {
        let mut small = architecture.boxed();
        let config = small.common_mut();
        config.num_hidden_layers = config.num_hidden_layers.min(LAYERS);
        let length = length.min(config.max_position_embeddings).max(2);
        let flat = random_tokens((tokens / length).max(1), length, config.vocab_size);
        let model = create::filled(small, device, storage)?;
        let n = flat.ids.len();
        let rows: Vec<usize> = (0..n - 1).collect();
        let first = model.linears().filter(|linear| linear.layer == 0);
        let full = first.filter_map(|linear| model.weight(linear)).cloned().collect();
        Ok(Self {
            flat,
            tiny: Tokens::one(vec![0, 0]),
            many: rows.len().min(n / 4).max(1),
            rows,
            none: Adapter::default(),
            on_last: rank_one(&model, model.layers() - 1)?,
            on_first: rank_one(&model, 0)?,
            full,
            nothing: BTreeSet::new(),
            model,
        })
    }

    fn forward(&self, tokens: &Tokens, rows: usize) -> Result<()> {
        let rows = &self.rows[..rows];
        self.model.nll(tokens, rows, &vec![0; rows.len()], &self.none).map(drop)
    }

    fn backward(
        &self,
        tokens: &Tokens,
        rows: usize,
        adapter: &Adapter,
        full: &BTreeSet<ParamId>,
    ) -> Result<()> {
        let rows = &self.rows[..rows];
        let request = GradRequest { adapter, full, gradient_checkpointing: false };
        self.model.gradients(tokens, rows, &vec![0; rows.len()], 1.0, &request).map(drop)
    }

    fn jobs(&self) -> Result<[Job<'_>; JOBS]> {
        let (flat, many, nothing) = (&self.flat, self.many, &self.nothing);
        Ok([
            Box::new(|| self.forward(&self.tiny, 1)),
            Box::new(|| self.forward(flat, 1)),
            Box::new(move || self.forward(flat, many)),
            Box::new(|| self.backward(flat, 1, &self.on_last, nothing)),
            Box::new(move || self.backward(flat, many, &self.on_last, nothing)),
            Box::new(|| self.backward(flat, 1, &self.on_first, nothing)),
            Box::new(|| self.backward(flat, 1, &self.none, &self.full)),
            Box::new(|| self.backward(&self.tiny, 1, &self.on_first, nothing)),
        ])
    }

    /// What the seconds of the jobs say.
    fn rates(&self, seconds: [f64; JOBS]) -> Rates {
        let [pass, forward, forward_many, last, last_many, first, full, tiny] = seconds;
        let layers = self.model.layers();
        let (n, l) = (self.flat.ids.len() as f64, layers as f64);
        let extra = (self.many - 1).max(1) as f64;
        let fixed_backward = (tiny - pass).max(0.0) / l;
        let below = (first - if layers > 1 { last } else { forward }).max(0.0);
        Rates {
            fixed: pass / l,
            fixed_backward,
            forward: (forward - pass).max(0.0) / n / l,
            backward: (below - fixed_backward).max(0.0) / n,
            full: ((full - forward).max(0.0) / n / l).max(below / n),
            row: (forward_many - forward).max(0.0) / extra,
            row_backward: (last_many - last).max(0.0) / extra,
        }
    }
}

/// Pairs of rank 1 on all targets of a layer.
fn rank_one(model: &Model, layer: usize) -> Result<Adapter> {
    let pair = |linear: &LinearId| -> Result<(LinearId, LoraPair)> {
        let zeros = |shape| Tensor::zeros(shape, model.factor_dtype(), model.device());
        let (a, b) = (zeros((1, linear.inner))?, zeros((linear.out, 1))?);
        Ok((linear.clone(), LoraPair { a, b, scale: 1.0 }))
    };
    let linears = model.linears().filter(|linear| linear.layer == layer);
    Ok(Adapter::of_pairs(linears.map(pair).collect::<Result<BTreeMap<_, _>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    #[test]
    fn operations_are_those_counted_by_hand() -> Result<()> {
        // D 12, F 10, H 4, G 2, E 4, V 13, three layers: q 192, k and v 96 each, o 192, gate, up
        // and down 120 each.
        let model = testing::model(&testing::config(), DType::F32)?;
        let cost = model.cost();
        assert!(cost.blocks.iter().all(|b| b.weights == 192 + 2 * 96 + 192 + 3 * 120));
        let work = Work::of(&Tokens::sequences(vec![0; 5], &[0, 3, 5]), 2);
        assert_eq!(work, Work { tokens: 5, rows: 2, pairs: 6 + 3, longest: 9 });
        let layer = 2 * 936 * 5 + 4 * 16 * 9;
        let head = 2 * 12 * 13 * 2;
        assert_eq!(cost.forward_flops(work), (3 * layer + head) as f64);
        let backward = 2 * 936 * 5 + 8 * 16 * 9;
        assert_eq!(cost.backward_flops(work, 1, 936), (2 * backward + head + 2 * 936 * 5) as f64);
        assert_eq!(cost.backward_flops(work, 3, 0), head as f64);
        Ok(())
    }

    #[test]
    fn rates_grow_with_the_work() -> Result<()> {
        let config = testing::with(|c| c.common.max_position_embeddings = 1);
        let rates = Rates::measure(&config, DType::F32, &Device::Cpu, (64, 8), Duration::ZERO)?;
        let layers = config.common.num_hidden_layers;
        let work = Work { tokens: 100, rows: 10, pairs: 100, longest: 100 };
        let twice = work.and(work);
        assert!(rates.fixed > 0.0 && rates.forward_seconds(layers, work, 1) >= rates.fixed);
        assert!(
            rates.forward_seconds(layers, twice, 2)
                >= 2.0 * rates.forward_seconds(layers, work, 1) * 0.999
        );
        assert!(
            rates.step_seconds(layers, work, 1, 0, false)
                >= rates.step_seconds(layers, work, 1, 2, false)
        );
        Ok(())
    }
}

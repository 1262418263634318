//! What holds of every optimizer, and what their own tests share.

use candle_core::{DType, Device};
use serde_json::json;

use super::*;

/// p of [1, −2] after four steps along p + t, t = 0, 1, 2, 3, at a rate of 0.1, in f64.
pub(super) fn steps(kind: impl Into<OptimizerKind>) -> Result<Vec<f64>> {
    let mut p = Tensor::new(&[1f64, -2.0], &Device::Cpu)?;
    let mut optimizer = Optimizer::new(kind);
    for t in 0..4 {
        let g = (&p + t as f64)?;
        p = optimizer.step(&[&p], &[Some((g, 0.1))])?.remove(0);
    }
    p.to_vec1()
}

pub(super) fn close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{got:?} is not {want:?}");
}

/// All optimizers with their defaults, and a weight decay.
fn all() -> Vec<OptimizerKind> {
    let value = |key: &str, setting: Setting| match setting {
        Setting::NonNegative(_) if key == "weight_decay" => json!(0.01),
        Setting::Fraction(x) | Setting::Positive(x) | Setting::NonNegative(x) => json!(x),
        Setting::Flag(on) => json!(on),
        Setting::Count(n) => json!(n),
    };
    let built = OPTIMIZERS.iter().map(|info| {
        let options = info.options.iter().map(|(key, s)| (key.to_string(), value(key, *s)));
        (info.build)(options.collect()).unwrap()
    });
    built.collect()
}

/// Numbers from −1 to 1 as a matrix of three rows.
fn matrix(columns: usize, seed: usize, dtype: DType) -> Result<Tensor> {
    let number = |i| ((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0;
    let values: Vec<f64> = (0..3 * columns).map(number).collect();
    Tensor::from_vec(values, (3, columns), &Device::Cpu)?.to_dtype(dtype)
}

pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

#[test]
fn options_are_the_fields_in_their_order() {
    for (kind, info) in all().iter().zip(OPTIMIZERS) {
        assert_eq!(kind.info().name, info.name);
        let names: Vec<&str> = info.options.iter().map(|(name, _)| *name).collect();
        assert!(kind.options().keys().eq(&names), "{:?} {names:?}", kind.options());
        assert!((info.build)(Map::new()).is_err(), "`{}` has defaults of its own", info.name);
    }
}

#[test]
fn files_name_them_as_ever() -> anyhow::Result<()> {
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    let sgd = Sgd { momentum: 0.9, weight_decay: 0.01 };
    for (kind, text) in [
        (
            OptimizerKind::from(adamw),
            r#"{"adam_w":{"beta1":0.9,"beta2":0.999,"eps":1e-8,"weight_decay":0.0}}"#,
        ),
        (sgd.into(), r#"{"sgd":{"momentum":0.9,"weight_decay":0.01}}"#),
    ] {
        assert_eq!(serde_json::to_string(&kind)?, text);
        assert_eq!(serde_json::from_str::<OptimizerKind>(text)?, kind);
    }
    Ok(())
}

#[test]
fn the_fused_pass_gives_the_bits_of_the_definition() -> Result<()> {
    let columns = (1 << 14) / 3 + 37;
    let mut seen = 0;
    for kind in all().into_iter().filter(|kind| kind.info().fused) {
        let at = |t: usize| StepInfo { lr: 1e-2, t: t as i32 };
        let (quick, mut slow) = (matrix(columns, 0, DType::F32)?, matrix(columns, 0, DType::F32)?);
        let mut optimizer = Optimizer::new(kind);
        let mut state = vec![slow.zeros_like()?; kind.info().state.len()];
        for t in 1..5 {
            let g = matrix(columns, t, DType::F32)?;
            slow = kind.step(&slow, &g, &mut state, at(t))?;
            optimizer.step(&[&quick], &[Some((g, at(t).lr))])?;
        }
        assert_eq!(numbers(&quick)?, numbers(&slow)?, "{kind:?}");
        for (kept, state) in optimizer.state()?.1[0].iter().zip(&state) {
            assert_eq!(numbers(kept)?, numbers(state)?, "{kind:?}");
        }
        seen += 1;
    }
    assert!(seen > 0);
    Ok(())
}

#[test]
fn what_does_not_move_keeps_its_state_and_its_count() -> Result<()> {
    for (kind, dtype) in all().into_iter().flat_map(|k| [(k, DType::F32), (k, DType::F64)]) {
        let (mut both, mut one) = (Optimizer::new(kind), Optimizer::new(kind));
        let mut pair = vec![matrix(4, 0, dtype)?, matrix(4, 0, dtype)?];
        let mut single = vec![matrix(4, 0, dtype)?];
        for t in 0..4 {
            let g = matrix(4, t, dtype)?;
            let now = (t % 2 == 0).then(|| (g.clone(), 0.1));
            pair = both.step(&pair.iter().collect::<Vec<_>>(), &[Some((g, 0.1)), now.clone()])?;
            if now.is_some() {
                single = one.step(&[&single[0]], &[now])?;
            }
        }
        assert_eq!(numbers(&pair[1])?, numbers(&single[0])?, "{kind:?}");
        assert_eq!(both.state()?.0, [4, 2]);
    }
    Ok(())
}

#[test]
fn pruned_it_keeps_the_entries_that_were_chosen() -> Result<()> {
    for (kind, dtype) in all().into_iter().flat_map(|k| [(k, DType::F32), (k, DType::F64)]) {
        let mut optimizer = Optimizer::new(kind);
        optimizer.step(&[&matrix(4, 0, dtype)?], &[Some((matrix(4, 1, dtype)?, 0.1))])?;
        let mut turn = 0;
        let pruned = optimizer.pruned(|| {
            turn += 1;
            turn % 2 == 0
        })?;
        let (old, new) = (optimizer.state()?.1.concat(), pruned.state()?.1.concat());
        assert_eq!((new.len(), turn), (kind.info().state.len(), 12));
        for (old, new) in old.iter().zip(&new) {
            for (i, (old, new)) in numbers(old)?.iter().zip(numbers(new)?).enumerate() {
                assert_eq!(new, if i % 2 == 1 { *old } else { 0.0 }, "{kind:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn resumed_it_goes_on_with_the_same_bits() -> Result<()> {
    for (kind, dtype) in all().into_iter().flat_map(|k| [(k, DType::F32), (k, DType::F64)]) {
        let run = |stop: Option<usize>| -> Result<Vec<f64>> {
            let (mut p, mut optimizer) = (matrix(4, 0, dtype)?, Optimizer::new(kind));
            for t in 0..4 {
                if stop == Some(t) {
                    let (steps, state) = optimizer.state()?;
                    optimizer = Optimizer::resumed(kind, steps, state, &[&p])?;
                }
                p = optimizer.step(&[&p], &[Some((matrix(4, t, dtype)?, 0.1))])?.remove(0);
            }
            numbers(&p)
        };
        let whole = run(None)?;
        for stop in 0..4 {
            assert_eq!(run(Some(stop))?, whole, "{kind:?} stopped after {stop}");
        }
        let p = matrix(4, 0, dtype)?;
        let short = Optimizer::resumed(kind, vec![1], vec![vec![]], &[&p]).unwrap_err();
        assert!(short.to_string().starts_with("fewer moments than the rule has"), "{short}");
    }
    Ok(())
}

//! `metrics.jsonl`: one line per logged point of training.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Folder;
use crate::error::bail;

/// One logged point. Whatever a clock measured lies under `timing`; all else is reproducible.
#[derive(Clone, Debug, Serialize)]
pub struct Point<'a> {
    /// Boosters merged so far.
    pub round: usize,
    /// Steps taken in the run, over all boosters.
    pub step: u64,
    pub loss: f64,
    pub lr: f64,
    /// Global norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// Tokens seen in the run.
    pub tokens: u64,
    /// Layers that this booster trains.
    pub layers: &'a [usize],
    pub timing: PointTiming,
}

/// What the clock said at a point.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PointTiming {
    /// Since the run began.
    pub seconds: f64,
    /// Of this step.
    pub step_seconds: f64,
    pub tokens_per_second: f64,
}

/// One merge: a booster that became part of the weights. A line `{"merge": {…}, "timing": {…}}` of
/// `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Merge {
    /// Boosters merged before it: the `round` of its points.
    pub round: usize,
    /// `low_rank` or `dense`.
    pub kind: String,
    /// Layers that it trained, ascending.
    pub layers: Vec<usize>,
    /// Numbers that it trained.
    pub parameters: u64,
    /// Steps that it was trained for, over all its fits.
    pub steps: u64,
    /// η
    pub eta: f64,
    /// By how much the booster lowered the mean loss on the last batch that it saw, in nats a
    /// token, measured before it was trained on that batch. `None` after a single step or none,
    /// where there is nothing to measure.
    pub gain: Option<f64>,
    /// The share of the update that 16-bit weights took up: ⟨stored change, δ⟩/‖δ‖², over what the
    /// merge changed. `None` of wider weights, which lose nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<f64>,
    /// Frobenius norm of what was added to all weights of a layer together, by layer.
    pub update_norms: std::collections::BTreeMap<usize, f64>,
}

/// The open file; each line is one write, so a kill leaves whole lines.
#[derive(Debug)]
pub struct Metrics {
    file: Option<File>,
    bytes: u64,
}

impl Metrics {
    /// The file in `folder`, cut back to its first `bytes`. Errors (class data): it is shorter.
    pub fn open(folder: &Folder, bytes: u64) -> Result<Self> {
        if folder.is_dry() {
            return Ok(Self { file: None, bytes });
        }
        let path = Self::path(folder);
        let shown = || format!("cannot write `{}`", path.display());
        let file = OpenOptions::new().create(true).append(true).open(&path).with_context(shown)?;
        let length = file.metadata().with_context(shown)?.len();
        if length < bytes {
            bail!(Data, "`{}` has {length} bytes; the journal tells of {bytes}", path.display());
        }
        file.set_len(bytes).with_context(shown)?;
        Ok(Self { file: Some(file), bytes })
    }

    /// Where it is in `folder`.
    pub fn path(folder: &Folder) -> PathBuf {
        folder.path().join("metrics.jsonl")
    }

    /// How many there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Brings it to the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data).context("cannot write `metrics.jsonl`")
    }

    /// Appends a [`Point`], or an evaluation.
    pub fn log(&mut self, point: &impl Serialize) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = serde_json::to_vec(point)?;
        line.push(b'\n');
        file.write_all(&line).context("cannot write `metrics.jsonl`")?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_line_and_time_is_under_timing() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::create(Some(home.path()), "x").unwrap();
        let mut metrics = Metrics::open(&folder, 0).unwrap();
        let timing = PointTiming { seconds: 0.5, step_seconds: 0.25, tokens_per_second: 100.0 };
        metrics
            .log(&Point {
                round: 0,
                step: 1,
                loss: 2.5,
                lr: 1e-3,
                gradient_norm: 0.5,
                tokens: 64,
                layers: &[0, 3],
                timing,
            })
            .unwrap();
        metrics
            .log(&Point {
                round: 0,
                step: 2,
                loss: f64::NAN,
                lr: 1e-3,
                gradient_norm: 0.5,
                tokens: 128,
                layers: &[0, 3],
                timing,
            })
            .unwrap();
        let text = std::fs::read_to_string(home.path().join("metrics.jsonl")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let first = concat!(
            r#"{"round":0,"step":1,"loss":2.5,"lr":0.001,"gradient_norm":0.5,"tokens":64,"#,
            r#""layers":[0,3],"timing":{"seconds":0.5,"step_seconds":0.25,"#,
            r#""tokens_per_second":100.0}}"#,
        );
        assert_eq!(lines[0], first);
        assert!(lines[1].contains(r#""loss":null"#), "{}", lines[1]);
        assert_eq!(lines.len(), 2);
    }
}

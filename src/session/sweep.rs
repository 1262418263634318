//! Points and rows of a sweep, as the recipe tells them.

use anyhow::Result;
use serde_json::{Map, Value};

use super::{Effects, Session};
use crate::error::bail;
use crate::run::{MOST_ROWS, SweepPoint};

impl Session {
    /// Begins a point of a sweep: what is trained and measured from here on is its own, until it
    /// ends or the next begins.
    pub fn begin_point(&self, settings: Map<String, Value>, smaller: bool) -> Result<()> {
        let point = SweepPoint { settings, smaller, result: None };
        let told = serde_json::to_value(&point)?;
        self.run.with(|run| {
            room(run.sweep.points.len())?;
            run.log_kept("point", &point)?;
            run.begin_point(point);
            Ok(())
        })?;
        self.call.tell("point", told);
        Ok(())
    }

    /// Ends the point that is open, with what came of it. Errors (class usage): none is open.
    pub fn end_point(&self, result: Value) -> Result<()> {
        let told = result.clone();
        self.run.with(|run| {
            if run.sweep.current().is_none() {
                bail!(
                    Usage,
                    "no point of a sweep is open";
                    hint: "`sweep::begin(#{{ … }})` opens one"
                );
            }
            run.log_kept("result", &result)?;
            run.sweep.end(result);
            Ok(())
        })?;
        self.call.tell("result", told);
        Ok(())
    }

    /// Keeps a row of a table of results.
    pub fn keep_row(&self, row: Map<String, Value>) -> Result<()> {
        let told = row.clone();
        self.run.with(|run| {
            room(run.sweep.rows.len())?;
            run.log_kept("row", &row)?;
            run.sweep.rows.push(row);
            Ok(())
        })?;
        self.call.tell("row", told);
        Ok(())
    }

    /// Takes over what an earlier process told of a sweep.
    pub fn recall_sweep(&self, effects: &Effects) -> Result<()> {
        let of = |key: &str| effects.get(key).cloned();
        let point = of("point").map(serde_json::from_value::<SweepPoint>).transpose()?;
        let row = of("row").map(serde_json::from_value::<Map<String, Value>>).transpose()?;
        self.run.note(|run| {
            point.into_iter().for_each(|point| run.begin_point(point));
            of("result").into_iter().for_each(|result| run.sweep.end(result));
            run.sweep.rows.extend(row);
        })
    }
}

/// Errors (class usage): there are as many as a run keeps.
fn room(kept: usize) -> Result<()> {
    if kept >= MOST_ROWS {
        bail!(Usage, "a run keeps at most {MOST_ROWS} points of sweeps, and as many rows");
    }
    Ok(())
}

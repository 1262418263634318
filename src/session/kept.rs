//! The model of an earlier run: its base, and its boosters.

use std::path::Path;

use anyhow::Result;

use super::Session;
use super::dry_run::Event;
use super::head::{headed, with_seed};
use super::load::FromFiles;
use super::model::{Model, ModelState, file_digest};
use crate::boost::Update;
use crate::device;
use crate::error::{bail, error};
use crate::model::MergeMode;
use crate::run::{Ensemble, FinishedRun, Manifest, Member, booster_name};
use crate::source::{self, Date, Name};

impl Session {
    /// The model of the run in the folder called `path`: its base with all its boosters, to be
    /// evaluated, taken back or boosted further. `base` says where the model lies that the run
    /// began with, if not by the name in its `run.json` or where it lay then; `date` as in
    /// [`LoadOptions`](super::LoadOptions).
    pub fn from_run(&self, path: &str, base: Option<&str>, date: Option<Date>) -> Result<Model> {
        let folder = self.names.path(path)?;
        let kept = FinishedRun::open(&folder)?;
        let name = kept.model()?;
        if kept.manifest.dtype != self.settings.dtype.as_str() {
            bail!(
                Usage,
                "the run kept its weights in `{}`",
                kept.manifest.dtype;
                hint: "add `--dtype {}`",
                kept.manifest.dtype
            );
        }
        let (read, found) = self.base_files(&kept, base)?;
        // What is wrong with the run is found before this one tells of a model.
        let headed = headed(&read.loaded.model, &kept.manifest)?;
        for (path, _) in kept.boosters() {
            self.guard.check()?;
            Update::load(&path, headed.as_ref().unwrap_or(&read.loaded.model))?;
        }
        drop(headed);
        let model = self.place_base(&kept, read, date)?;
        self.take_over(&mut model.state(), &kept)?;
        self.note_place(path, &Name::Path(folder))?;
        self.note_place(base.unwrap_or(name), &found)?;
        Ok(model)
    }

    /// The model that an earlier run began with.
    pub fn base_of_run(&self, kept: &FinishedRun, date: Option<Date>) -> Result<Model> {
        let (read, _) = self.base_files(kept, None)?;
        self.place_base(kept, read, date)
    }

    /// Gives the base of a run its place in this one, to be merged into as there.
    fn place_base(
        &self,
        kept: &FinishedRun,
        mut read: FromFiles,
        date: Option<Date>,
    ) -> Result<Model> {
        let mode = MergeMode::from_name(&kept.manifest.merge_mode).unwrap_or_default();
        read.loaded.tokenizer = read.loaded.tokenizer.with_date(date);
        let model = self.place_model(kept.model()?, mode, read)?;
        model.take_head(&kept.manifest)?;
        if let (0, Some(head)) = (model.index(), &kept.manifest.head) {
            self.run.begun(|run| run.note_head(with_seed(head, kept.manifest.seed)))?;
        }
        Ok(model)
    }

    /// The model that a run began with: `base`, if it is named; else what has its name here, or
    /// lies where it lay then, if that was given by any name. Errors (class data): its weights are
    /// no longer those that the run began with.
    fn base_files(&self, kept: &FinishedRun, base: Option<&str>) -> Result<(FromFiles, Name)> {
        self.count_model()?;
        let name = kept.model()?;
        let then = kept.manifest.begun.as_ref().and_then(|begun| begun.places.get(name));
        let found = match (base, then) {
            (Some(base), _) => self.resolve(base)?,
            (None, None) => self.resolve(name)?,
            (None, Some(_)) if self.names.everything() => self.resolve(name)?,
            (None, Some(then)) => {
                let mut found = if self.names.grants(name).allows(name) {
                    self.resolve(name).unwrap_or_default()
                } else {
                    vec![]
                };
                found.retain(|found| matches!(found, Name::Path(_)));
                found.extend(self.names.given_at(Path::new(then)).map(Name::Path));
                found
            }
        };
        if let (true, Some(then)) = (found.is_empty(), then) {
            let error = error!(
                Usage,
                "the base of the run, `{name}`, was `{then}` when it was begun, which no `-p` gives"
            );
            return Err(error
                .hint("`-p base=PATH` gives it to `model::from_run(p.run, #{ base: p.base })`")
                .into());
        }
        let then = kept.manifest.digests.get(name);
        let (read, found) = source::right_one(
            found,
            |found| self.read_model(found, kept.manifest.pre_tokenizer.as_deref()),
            |read| then == Some(&read.digests.digest),
        )?;
        let now = &read.digests.digest;
        if read.loaded.model.is_meta() || then.is_none_or(|then| then == now) {
            return Ok((read, found));
        }
        let place = if found.to_string() == name {
            String::new()
        } else {
            format!(", read from `{found}`,")
        };
        Err(error!(
            Data,
            "`{name}`{place} is not the model that the run began with: its weights are others";
            hint: "SHA-256 is {now}, in `run.json` {}",
            then.map_or("", String::as_str)
        )
        .into())
    }

    /// Gives a model, just loaded, the boosters of an earlier run; their files become this run's.
    fn take_over(&self, m: &mut ModelState, kept: &FinishedRun) -> Result<()> {
        let folder = m.folder(self)?;
        let (mut all, again) = (vec![], self.call.is_again());
        for (number, (path, weight)) in kept.boosters().into_iter().enumerate() {
            self.guard.check()?;
            let update = Update::load(&path, &m.network)?.scaled(weight)?;
            if !again {
                update.add(&mut m.network)?;
            }
            let file = booster_name(number);
            self.call.tell(format!("the booster `{file}`"), file_digest(&path)?);
            self.write(|| Ok(std::fs::copy(&path, folder.join(&file))?))?;
            all.push(Member { file, weight });
        }
        let all = Ensemble::new(all);
        self.call.tell("boosters", serde_json::to_value(all.members())?);
        let rounds = all.rounds();
        m.boosters.merged = all;
        m.boosters.kept = rounds;
        // Boosters made from here on start from draws of their own.
        m.boosters.made = rounds;
        let left = self.merges_left(m.index, &m.network);
        if again {
            m.defer_merges(self)?;
        } else {
            self.run.with(|run| {
                run.lists(folder, &m.boosters.merged);
                run.composed(&m.boosters.merged)
            })?;
        }
        self.observe(|| Event::Took { left })
    }
}

impl Model {
    /// Adds the booster in the file at `path`, multiplied by `weight`; the layers that it changes.
    pub fn add_booster(&self, path: &Path, weight: f64) -> Result<Vec<usize>> {
        let mut m = self.with_weights()?;
        let update = Update::load(path, &m.network)?.scaled(weight)?;
        update.add(&mut m.network)?;
        Ok(update.layers())
    }

    /// Errors (class data) where the base and all boosters of a run give other weights than it
    /// ended with, by their digest. A program, device or kernels that are not those of the run may
    /// give other last bits, so nothing is said then.
    pub fn agrees(&self, kept: &FinishedRun) -> Result<()> {
        let Manifest { engine, kernels, device: before, .. } = &kept.manifest;
        if engine != env!("CARGO_PKG_VERSION")
            || kernels != device::kernels()
            || before != "cpu"
            || !self.session().settings.device.is_cpu()
        {
            return Ok(());
        }
        let Some(then) = &kept.weights_digest else { return Ok(()) };
        if *then != self.digest()? {
            bail!(
                Data,
                "the run's boosters give other weights than it ended with: one of them or \
                 `boosters/ensemble.json` was changed, or is damaged"
            );
        }
        Ok(())
    }
}

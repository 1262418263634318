//! Models from files.

use anyhow::Result;

use super::Session;
use super::dry_run::{Event, Opened};
use super::model::{Base, Boosters, Model, ModelState};
use super::reads::Reads;
use crate::boost::Booster;
use crate::boost::adapter::{self, Weights};
use crate::model::load::Loaded;
use crate::model::save::Digests;
use crate::model::{self, MergeMode};
use crate::source::{self, Date, ModelFiles, Name};

use super::model::file_digest;

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// What merges do.
    pub merge_mode: MergeMode,
    /// How a GGUF file's tokenizer splits texts, by llama.cpp's name, in place of what the file
    /// states.
    pub pre_tokenizer: Option<String>,
    /// The day that a chat template writes where it asks for today's.
    pub date: Option<Date>,
}

/// A model that was read, and has no place in the run yet.
pub(super) struct FromFiles {
    pub(super) files: ModelFiles,
    pub(super) loaded: Loaded,
    /// None where nothing is computed.
    pub(super) digests: Digests,
}

impl Session {
    /// Loads the model called `name`: `builtin:micro`, a Hugging Face folder, a GGUF file or a hub
    /// id (`owner/name@revision`).
    pub fn load(&self, name: &str, options: &LoadOptions) -> Result<Model> {
        self.count_model()?;
        let pre_tokenizer = options.pre_tokenizer.as_deref();
        let then = self.names.digest(name);
        let (mut read, found) = source::right_one(
            self.resolve(name)?,
            |found| self.read_model(found, pre_tokenizer),
            |read| then == Some(&read.digests.digest),
        )?;
        read.loaded.tokenizer = read.loaded.tokenizer.with_date(options.date);
        let model = self.place_model(name, options.merge_mode, read)?;
        self.note_place(name, &found)?;
        Ok(model)
    }

    /// What `name` stands for.
    pub(super) fn resolve(&self, name: &str) -> Result<Vec<Name>> {
        let console = if self.assume().is_some() { None } else { Some(&*self.console) };
        let found = self.names.resolve(name, console);
        self.guard.check()?;
        found
    }

    /// Notes in the run where a name lies, if that is a path.
    pub(super) fn note_place(&self, name: &str, found: &Name) -> Result<()> {
        match found {
            Name::Path(path) => {
                self.run.begun(|run| run.note_place(name, path, self.names.is_moved(name)))
            }
            _ => Ok(()),
        }
    }

    /// Reads a model's files, or where nothing is computed their shapes.
    pub(super) fn read_model(
        &self,
        found: &Name,
        pre_tokenizer: Option<&str>,
    ) -> Result<FromFiles> {
        let files = source::model(found)?.split_by(pre_tokenizer)?;
        let dtype = self.settings.dtype;
        let loaded = match self.assume() {
            Some(assume) => model::meta::load(&files, dtype, assume)?,
            None => model::load::load(&files, &self.settings.device, dtype)?,
        };
        let digests = loaded.model.digests()?;
        Ok(FromFiles { files, loaded, digests })
    }

    /// Gives a model that was read its place in the run.
    pub(super) fn place_model(
        &self,
        name: &str,
        mode: MergeMode,
        read: FromFiles,
    ) -> Result<Model> {
        let FromFiles { files, loaded, digests } = read;
        if !self.call.is_again() {
            loaded.notes.iter().for_each(|note| self.console.note(&format!("`{name}`: {note}")));
        }
        let digest = digests.digest.clone();
        let index = self.run.begun(|run| run.note_model(name, digest.clone()))?;
        self.call.tell(format!("the digest of `{name}`"), digest);
        if index == 0
            && let ModelFiles::Gguf { pre_tokenizer: Some(rule), .. } = &files
        {
            self.run.begun(|run| run.note_pre_tokenizer(rule))?;
        }
        let model = self.add_model(name, index, loaded, Some(Base { files, digests }));
        model.merge_by(mode)?;
        self.opened(&model)?;
        Ok(model)
    }

    /// A model of the run.
    pub(super) fn add_model(
        &self,
        name: &str,
        index: usize,
        loaded: Loaded,
        base: Option<Base>,
    ) -> Model {
        let Loaded { model: network, tokenizer, extras, .. } = loaded;
        let tokenizer = std::sync::Arc::new(tokenizer);
        let reads = Reads::of(&network, &tokenizer).into();
        let (boosters, wording) = (Boosters::default(), vec![]);
        let state = ModelState {
            index,
            network,
            tokenizer,
            reads,
            extras,
            headed: false,
            base,
            boosters,
            wording,
        };
        Model::new(self, name, state)
    }

    /// Notes a model that was opened, and takes its digest when the run has ended.
    pub(super) fn opened(&self, model: &Model) -> Result<()> {
        let digested = model.clone();
        self.at_end(move || digested.final_digest());
        let state = model.state();
        let network = &state.network;
        self.observe(|| Event::Model(self.event_of(model.name(), network)))
    }

    /// What a dry run notes of a model.
    pub(super) fn event_of(&self, name: &str, network: &model::Model) -> Opened {
        Opened {
            name: name.to_owned(),
            architecture: network.architecture().boxed(),
            cost: network.cost(),
            parameters: network.parameters(),
            storage: self.settings.dtype,
            merge_mode: network.merge_mode(),
        }
    }
}

impl Model {
    /// The PEFT LoRA adapter in the folder called `path`, as what a booster of this model is.
    pub(super) fn read_adapter(&self, path: &str, with_head: bool) -> Result<Booster> {
        let session = self.session();
        let folder = session.names.path(path)?;
        let state = self.state();
        let weights = match state.round() {
            0 if state.network.is_meta() => Weights::Meta,
            0 => Weights::Base,
            _ => Weights::Changed,
        };
        let load = if with_head { adapter::load } else { adapter::load_without_head };
        let loaded = load(&folder, &state.network, weights)?;
        session.note_place(path, &Name::Path(folder.clone()))?;
        if !session.call.is_again() {
            let notes =
                loaded.notes(self.name()).into_iter().chain(loaded.training.iter().cloned());
            notes.for_each(|note| session.console.note(&format!("`{path}`: {note}")));
        }
        for file in ["adapter_model.safetensors", "adapter_config.json"] {
            session.call.tell(format!("{path}/{file}"), file_digest(&folder.join(file))?);
        }
        Ok(loaded.booster)
    }
}

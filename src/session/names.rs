//! Names of models and data: which may be read, and where they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;

use super::console::Console;
use super::held::lock;
use super::settings::Settings;
use crate::source::{self, Grants, Name, Places};

/// What may be read.
pub struct Names {
    /// Where the names of a run lie that is gone on with.
    places: Places,
    /// Any model and data set of the hub may be fetched.
    hub: bool,
    granted: Mutex<Granted>,
    /// Names of the hub that the person agreed to.
    agreed: Mutex<BTreeSet<String>>,
}

#[derive(Default)]
enum Granted {
    #[default]
    Nothing,
    /// These paths and names, exactly; beside them are names that stand in a file of parameters,
    /// each with its parameter.
    Given(Vec<String>, BTreeMap<String, String>),
    Everything,
}

impl Names {
    pub(super) fn new(settings: &Settings) -> Self {
        let (places, hub) = (settings.places.clone(), settings.allow_hub);
        Self { places, hub, granted: Mutex::default(), agreed: Mutex::default() }
    }

    /// Grants these names and nothing else; not those of a file of parameters, `of_file`, of which
    /// it is told that they are not.
    pub fn grant(&self, names: Vec<String>, of_file: BTreeMap<String, String>) {
        *lock(&self.granted) = Granted::Given(names, of_file);
    }

    /// Grants every path and name.
    pub fn grant_everything(&self) {
        *lock(&self.granted) = Granted::Everything;
    }

    /// What may be read where `name` is asked for. One of the hub is fetched only if it was given
    /// exactly.
    pub(super) fn grants(&self, name: &str) -> Grants {
        match &*lock(&self.granted) {
            Granted::Nothing => Grants::new(vec![], self.hub),
            Granted::Given(given, of_file) => {
                let hub = self.hub || given.iter().any(|g| g == name);
                Grants::new(given.clone(), hub).beside(of_file.clone())
            }
            Granted::Everything => Grants::everything(),
        }
    }

    /// The path of a name that is a file or folder. Errors: those of [`Grants::check`]; it is not
    /// where it was (class data).
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        self.places.path(name, &self.grants(name))
    }

    /// A path that was given, whatever its text, and that is the file or folder `place`.
    pub(super) fn given_at(&self, place: &Path) -> Option<PathBuf> {
        let place = place.canonicalize().ok()?;
        let granted = lock(&self.granted);
        let Granted::Given(given, _) = &*granted else { return None };
        let mut paths = given.iter().map(|name| source::expanded(name));
        paths.find(|path| path.canonicalize().is_ok_and(|path| path == place))
    }

    /// What `name` stands for: one thing, or in a run that is gone on with several, of which a
    /// digest says which is right. One of the hub that was not given is asked for at `console`,
    /// once, where there is one. Errors: those of [`source::resolve`].
    pub(super) fn resolve(&self, name: &str, console: Option<&dyn Console>) -> Result<Vec<Name>> {
        let mut grants = self.grants(name);
        let of_hub = || {
            let mut wide = grants.clone();
            wide.hub = true;
            matches!(source::resolve(name, &wide), Ok(Name::Hub { .. }))
        };
        if let Some(console) = console
            && !grants.hub
            && of_hub()
        {
            let question =
                format!("The recipe asks for `{name}` from the Hugging Face hub. Fetch it?");
            grants.hub = lock(&self.agreed).contains(name) || console.allows(&question);
            if grants.hub {
                lock(&self.agreed).insert(name.to_owned());
            }
        }
        self.places.resolve(name, &grants)
    }

    /// SHA-256 of something that a run read before it was taken up.
    pub(super) fn digest(&self, name: &str) -> Option<&String> {
        self.places.digests.get(name)
    }

    /// Whether every path and name may be read.
    pub(super) fn everything(&self) -> bool {
        matches!(&*lock(&self.granted), Granted::Everything)
    }

    /// Whether a place was given for a name that had another one.
    pub(super) fn is_moved(&self, name: &str) -> bool {
        self.places.moved.contains_key(name)
    }
}

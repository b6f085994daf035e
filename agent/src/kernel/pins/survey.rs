//! Reading what is pinned in a directory, and holding it.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use super::{
    directory::{LINK, MAP, PROGRAM, names},
    fdinfo::{self, Object},
    sys,
    verdict::{Found, FoundMap, FoundProgram, Unfit},
};

/// What is pinned, open.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) found: Found,
    /// Of each hook.
    pub(crate) programs: BTreeMap<String, OwnedFd>,
    pub(crate) links: BTreeMap<String, OwnedFd>,
}

impl Survey {
    /// Reads all that lies in `directory`.
    pub(crate) fn of(directory: &Path) -> Result<Self, Unfit> {
        let unreadable = |name: &str, error: &dyn std::fmt::Display| Unfit::Unreadable {
            name: name.to_owned(),
            reason: error.to_string(),
        };
        let mut survey = Self::default();
        let names = names(directory).map_err(|error| unreadable("the directory", &error))?;
        for name in names {
            let read = survey.add(directory, &name);
            if let Err(error) = read {
                return Err(unreadable(&name, &error));
            }
        }
        Ok(survey)
    }

    fn add(&mut self, directory: &Path, name: &str) -> std::io::Result<()> {
        let pinned = sys::open(&directory.join(name))?;
        let object = fdinfo::of(pinned.as_fd())?;
        let found = &mut self.found;
        match object {
            Some(Object::Map { id, shape }) if let Some(map) = name.strip_prefix(MAP) => {
                found.maps.insert(map.to_owned(), FoundMap { id, shape });
            }
            Some(Object::Program { id }) if let Some(hook) = name.strip_prefix(PROGRAM) => {
                let sys::Program { name, maps } = sys::program(pinned.as_fd())?;
                let program = FoundProgram { id, name, maps };
                found.programs.insert(hook.to_owned(), program);
                self.programs.insert(hook.to_owned(), pinned);
            }
            Some(Object::Link { program }) if let Some(hook) = name.strip_prefix(LINK) => {
                found.links.insert(hook.to_owned(), program);
                self.links.insert(hook.to_owned(), pinned);
            }
            Some(_) | None => found.strangers.push(name.to_owned()),
        }
        Ok(())
    }
}

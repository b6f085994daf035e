//! By which hooks connect() is seen, of those that would do.

use super::{
    error::Missing,
    hooks::{Hook, Way},
};

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ConnectHook {
    /// fexit where the kernel has it, else the tracepoints
    #[default]
    Auto,
    /// Only fexit: where it is refused, connect() is not seen
    Fexit,
    /// Only the tracepoints of the system call
    Tracepoints,
    /// None: attempts that fail before a SYN, and name lookups, are not seen
    Off,
}

/// How connect() came to be seen, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectSeen {
    /// Whose hooks were tried last; `None`: none, as asked for.
    pub way: Option<Way>,
    /// Why it is not the better one.
    pub fallen_back: Option<Missing>,
}

impl ConnectHook {
    /// Where to begin.
    pub(super) const fn first(self) -> Option<Way> {
        match self {
            Self::Auto | Self::Fexit => Some(Way::Functions),
            Self::Tracepoints => Some(Way::Tracepoints),
            Self::Off => None,
        }
    }
}

impl ConnectHook {
    /// The ways that may be taken, best first.
    pub(super) const fn ways(self) -> &'static [Option<Way>] {
        match self {
            Self::Auto => &[Some(Way::Functions), Some(Way::Tracepoints)],
            Self::Fexit => &[Some(Way::Functions)],
            Self::Tracepoints => &[Some(Way::Tracepoints)],
            Self::Off => &[None],
        }
    }
}

impl ConnectSeen {
    /// As the flag calls it.
    pub const fn as_str(&self) -> &'static str {
        match self.way {
            Some(Way::Functions) => "fexit",
            Some(Way::Tracepoints) => "tracepoints",
            None => "off",
        }
    }

    /// Whether this hook is to be tried.
    pub(super) fn takes(&self, hook: &Hook) -> bool {
        hook.way.is_none() || hook.way == self.way
    }

    /// Where to go on after `refused`, if the kernel refused the functions and there is another way.
    pub(super) fn fall_back(&self, asked: ConnectHook, refused: &Missing) -> Option<Self> {
        (asked == ConnectHook::Auto && self.way == Some(Way::Functions)).then(|| Self {
            way: Some(Way::Tracepoints),
            fallen_back: Some(refused.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::hooks::{HOOKS, HookError};

    fn refused() -> Missing {
        let hook = HOOKS.iter().find(|hook| hook.way.is_some()).unwrap();
        Missing::of(hook, &HookError::NotInObject)
    }

    fn begin(asked: ConnectHook) -> ConnectSeen {
        ConnectSeen {
            way: asked.first(),
            fallen_back: None,
        }
    }

    #[test]
    fn only_auto_falls_back_and_only_once() {
        let second = begin(ConnectHook::Auto).fall_back(ConnectHook::Auto, &refused());
        let second = second.unwrap();
        assert_eq!(second.way, Some(Way::Tracepoints));
        assert_eq!(second.fall_back(ConnectHook::Auto, &refused()), None);
        for asked in [
            ConnectHook::Fexit,
            ConnectHook::Tracepoints,
            ConnectHook::Off,
        ] {
            assert_eq!(begin(asked).fall_back(asked, &refused()), None, "{asked:?}");
        }
    }

    #[test]
    fn hooks_of_one_way_are_tried_and_all_others() {
        let tried = |asked: ConnectHook| -> Vec<_> {
            let seen = begin(asked);
            let hooks = HOOKS.iter().filter(|hook| seen.takes(hook));
            hooks.filter_map(|hook| hook.way).collect()
        };
        assert_eq!(tried(ConnectHook::Auto), [Way::Functions; 2]);
        assert_eq!(tried(ConnectHook::Tracepoints), [Way::Tracepoints; 2]);
        assert_eq!(tried(ConnectHook::Off), []);
    }

    #[test]
    fn functions_are_tried_first_so_that_a_refusal_costs_little() {
        let first = HOOKS.iter().take(2).map(|hook| hook.way);
        assert_eq!(first.collect::<Vec<_>>(), [Some(Way::Functions); 2]);
    }
}

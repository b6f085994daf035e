//! Enums whose values are attributes of a metric: a closed list, written once.
//!
//! A value in the list gets its word, its JSON and its place in `ALL`. Counts are indexed by that
//! place, so a value that is missing there would not be counted.

/// An enum of words, with `ALL` and `as_str`.
macro_rules! closed_list {
    (
        $(#[$of_enum:meta])*
        $name:ident {
            $($(#[$doc:meta])* $value:ident = $word:literal,)+
        }
    ) => {
        $(#[$of_enum])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $value,)+
        }

        impl $name {
            /// Every value, in the order of its declaration.
            pub const ALL: [Self; [$(Self::$value),+].len()] = [$(Self::$value),+];

            /// The attribute's value, byte for byte.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }
    };
}

pub(crate) use closed_list;

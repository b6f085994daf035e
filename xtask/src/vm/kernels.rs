//! The table of kernels for guests, with their Debian packages.

use crate::arch::Arch;

/// One kernel, and how to boot it.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its name in commands and tables.
    pub(crate) name: &'static str,
    pub(crate) arch: Arch,
    /// The beginning of its packages' names after `linux-image-`; the newest one of the series is
    /// used.
    pub(crate) series: &'static str,
    /// The end of their names: Debian's name of the configuration.
    pub(crate) flavour: &'static str,
    /// Boot parameters beyond the console.
    pub(crate) boot: &'static str,
    /// Whether it belongs to the smallest set that covers all kinds.
    pub(crate) smallest: bool,
}

impl Kernel {
    /// The kernel of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KERNELS.iter().find(|kernel| kernel.name == name)
    }
}

/// Every kernel of the matrix, oldest first. Debian builds all of them; the cloud configuration
/// represents a node's unless there is a reason for another.
pub(crate) const KERNELS: &[Kernel] = &[
    // A patch level before Debian's last ones: it refuses access to namespaces in another way.
    Kernel {
        name: "5.10-old",
        series: "5.10.0-30-",
        ..amd64("cloud-amd64")
    },
    Kernel {
        name: "5.10",
        series: "5.10.0-",
        smallest: true,
        ..amd64("cloud-amd64")
    },
    Kernel {
        name: "5.10-generic",
        series: "5.10.0-",
        ..amd64("amd64")
    },
    Kernel {
        name: "6.1",
        series: "6.1.0-",
        ..amd64("cloud-amd64")
    },
    Kernel {
        name: "6.12",
        series: "6.12.",
        ..amd64("cloud-amd64")
    },
    Kernel {
        name: "6.12-rt",
        series: "6.12.",
        ..amd64("rt-amd64")
    },
    Kernel {
        name: "6.18",
        series: "6.18.",
        ..amd64("cloud-amd64")
    },
    Kernel {
        name: "7.2",
        series: "7.2.",
        ..amd64("cloud-amd64")
    },
    Kernel {
        name: "7.3",
        series: "7.3.",
        smallest: true,
        ..amd64("cloud-amd64")
    },
    Kernel {
        name: "7.3-full",
        series: "7.3.",
        boot: "preempt=full",
        ..amd64("cloud-amd64")
    },
    Kernel {
        name: "7.3-rt",
        series: "7.3.",
        ..amd64("rt-amd64")
    },
    Kernel {
        name: "5.10-arm64",
        // The archives list newer ones for arm64 without having them.
        series: "5.10.0-30-",
        ..arm64("cloud-arm64")
    },
    Kernel {
        name: "6.1-arm64",
        series: "6.1.0-",
        ..arm64("cloud-arm64")
    },
    Kernel {
        name: "6.12-arm64",
        series: "6.12.",
        smallest: true,
        ..arm64("cloud-arm64")
    },
    Kernel {
        name: "7.3-arm64",
        series: "7.3.",
        ..arm64("cloud-arm64")
    },
    Kernel {
        name: "7.3-arm64-16k",
        series: "7.3.",
        ..arm64("arm64-16k")
    },
];

const fn amd64(flavour: &'static str) -> Kernel {
    Kernel {
        name: "",
        arch: Arch::Amd64,
        series: "",
        flavour,
        boot: "",
        smallest: false,
    }
}

const fn arm64(flavour: &'static str) -> Kernel {
    Kernel {
        arch: Arch::Arm64,
        ..amd64(flavour)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_tell_kernels_apart() {
        let names: BTreeSet<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        assert_eq!(names.len(), KERNELS.len());
        for kernel in KERNELS {
            assert!(
                kernel.flavour.contains(kernel.arch.debian()),
                "{}",
                kernel.name
            );
        }
    }

    #[test]
    fn the_smallest_set_is_the_oldest_the_newest_and_the_other_architecture() {
        let smallest: Vec<_> = KERNELS.iter().filter(|kernel| kernel.smallest).collect();
        assert!(
            smallest
                .iter()
                .any(|kernel| kernel.series.starts_with("5.10"))
        );
        assert!(smallest.iter().any(|kernel| kernel.arch == Arch::Arm64));
        assert_eq!(smallest.len(), 3);
    }
}

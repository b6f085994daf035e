//! An initial file system in the format that the kernel unpacks: cpio's `newc`.
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>

use std::{collections::BTreeSet, io::Write as _};

/// A file system under construction. Directories are made when they are needed.
#[derive(Debug, Default)]
pub(super) struct Archive {
    data: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// A program, or another file that everybody may read.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.parents(path);
        self.entry(path, 0o100_755, content);
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.parents(path);
        self.entry(path, 0o120_777, to.as_bytes());
    }

    pub(super) fn directory(&mut self, path: &str) {
        self.parents(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, 0o040_755, &[]);
        }
    }

    /// The complete archive, with its trailer.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.data
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default().to_owned();
            if !parent.is_empty() && self.directories.insert(parent.clone()) {
                self.entry(&parent, 0o040_755, &[]);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (name, size) = (path.len() + 1, content.len());
        // inode, mode, user, group, links, time, size, device and device of a node, name, checksum
        let fields = [
            self.entries as usize,
            mode as usize,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name,
            0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        let data = &mut self.data;
        // Writing to a Vec cannot fail.
        let _ = write!(data, "{header}{path}\0");
        align(data);
        data.extend_from_slice(content);
        align(data);
    }
}

/// Names and contents are padded to a multiple of four.
fn align(data: &mut Vec<u8>) {
    data.resize(data.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_its_directories_before_its_files() {
        let mut archive = Archive::default();
        archive.file("usr/bin/a", b"hello");
        archive.link("bin", "usr/bin");
        let data = archive.finish();
        assert_eq!(data.len() % 4, 0);
        let text = String::from_utf8_lossy(&data);
        // A name follows the header's last field, the checksum.
        let places: Vec<_> = ["usr", "usr/bin", "usr/bin/a", "bin", "TRAILER!!!"]
            .iter()
            .map(|name| text.find(&format!("00000000{name}\0")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{places:?}");
        assert!(text.contains("hello\0\0\0"));
        assert!(text.starts_with("070701"));
    }
}

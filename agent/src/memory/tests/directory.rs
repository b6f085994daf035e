//! Tests: other things in the directory, and directories that cannot be written to.

use super::*;

/// The directory takes no changes, but an open file can still be written to.
#[test]
fn an_old_file_that_cannot_be_removed_is_emptied() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    for is_read in [false, true] {
        let (memory, _) = open(directory.path());
        memory.write_down([pod("a", 1)]);
        let memory = if is_read {
            drop(memory);
            open(directory.path()).0
        } else {
            memory
        };
        fs::rename(path(FILE), path("kept")).unwrap();
        fs::create_dir(path(FILE)).unwrap();
        memory.write_down([pod("a", 2)]);
        assert_eq!(fs::read(path("kept")).unwrap(), b"", "{is_read}");
        fs::remove_dir(path(FILE)).unwrap();
    }
}

/// What anybody who may write to the directory can put there.
#[test]
fn what_is_not_the_agents_own_is_neither_read_nor_written_to() {
    let elsewhere = tempfile::tempdir().unwrap();
    let others = elsewhere.path().join("others");
    let make: [fn(&Path, &Path); 5] = [
        |at, _| {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, at, kind, mode, 0).unwrap();
        },
        |at, others| fs::hard_link(others, at).unwrap(),
        |at, others| std::os::unix::fs::symlink(others, at).unwrap(),
        |at, _| fs::create_dir(at).unwrap(),
        |at, _| {
            std::os::unix::net::UnixListener::bind(at).unwrap();
        },
    ];
    for (case, make) in make.iter().enumerate() {
        let of_others = file_of(&[pod("a", 1)], &[]);
        fs::write(&others, &of_others).unwrap();
        let directory = tempfile::tempdir().unwrap();
        make(&directory.path().join(FILE), &others);
        let (memory, left) = open(directory.path());
        assert_eq!(left, Err(Refusal::NotOwn), "{case}");
        memory.write_down([pod("b", 1)]);
        drop(memory);
        assert_eq!(fs::read(&others).unwrap(), of_others, "{case}");

        // The same, with the name of the new file.
        let directory = tempfile::tempdir().unwrap();
        let (memory, _) = open(directory.path());
        make(&directory.path().join(NEW), &others);
        memory.write_down([pod("b", 1)]);
        assert_eq!(fs::read(&others).unwrap(), of_others, "{case}");
        let file = directory.path().join(FILE);
        if let Ok(written) = fs::symlink_metadata(&file) {
            assert!(written.is_file(), "{case}");
            assert_eq!(std::os::unix::fs::MetadataExt::nlink(&written), 1, "{case}");
        }
        drop(memory);

        // The same, with the name of the lock.
        let directory = tempfile::tempdir().unwrap();
        make(&directory.path().join(LOCK), &others);
        let opened = Memory::open_for_boot(directory.path(), BOOT, || NOW);
        assert!(
            matches!(opened, Err(MemoryError::Io { .. })),
            "{case}: {opened:?}"
        );
        fs::remove_file(&others).unwrap();
    }
}

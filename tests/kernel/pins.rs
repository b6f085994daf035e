//! The kernel half outlives whoever attached it, and a successor goes on with it, or replaces it.

use std::{fs, path::Path, time::Duration};

use aya::{
    maps::{HashMap, MapData, loaded_maps},
    programs::loaded_programs,
};
use rustix::net::sockopt::set_socket_linger;
use statlink::kernel::{
    Before, Ends, Kernel, Pinning, PinsError, RecordKind, Unfit, tracefs, try_to_pin_in, uninstall,
};
use statlink_ebpf::{End, Phase, Source, Totals};
use statlink_tests::{bpffs::Bpffs, netns::Network, wait};

use crate::{
    PATIENCE,
    half::{Half, connected, this_process, watch},
};

/// The kernel half, pinned in `directory`, and where it came from: of an agent that `before` was left to.
fn load(directory: &Path, before: &Before) -> (Half, Pinning) {
    load_for(directory, statlink_tests::peer::PORT, before)
}

fn load_for(directory: &Path, port: u16, before: &Before) -> (Half, Pinning) {
    let runtime = Half::runtime();
    let entered = runtime.enter();
    let loaded = Kernel::load_pinned(&watch(port), &tracefs::show(), directory, before);
    let (kernel, pinning) = loaded.unwrap();
    drop(entered);
    (Half { kernel, runtime }, pinning)
}

/// What an agent leaves that has been told these of `source`.
fn leaves(half: &Half, source: Source, ended: Ends) -> Before {
    Before {
        half: half.kernel.half(),
        told: [(source, half.kernel.told(source, 0, ended))].into(),
    }
}

/// What an agent leaves that has tracked nobody.
fn leaves_nothing(half: &Half) -> Before {
    Before {
        half: half.kernel.half(),
        ..Before::default()
    }
}

fn ends(phase: Phase, how: End, number: u32) -> Ends {
    let mut ends = Ends::default();
    let cell = ends.as_flattened_mut().get_mut(Totals::cell(phase, how));
    *cell.unwrap() = number;
    ends
}

/// Mounted where the kernel half is loaded: that may be in a mount namespace of this thread's own.
fn bpffs() -> Bpffs {
    // Whether there is a tracefs makes no difference here.
    let _ = tracefs::show();
    Bpffs::mount().unwrap()
}

#[track_caller]
fn assert_fresh(pinning: Pinning) -> (Option<Unfit>, usize) {
    match pinning {
        Pinning::Fresh { unfit, removed, .. } => (unfit, removed),
        Pinning::Adopted | Pinning::Without(_) => panic!("{pinning:?}"),
    }
}

#[test]
fn a_successor_reads_on_where_its_predecessor_stopped_and_no_hook_is_detached() {
    let bpffs = bpffs();
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let source = this_process(&pod.namespace);

    let (mut first, pinning) = load(&bpffs.pins(), &Before::default());
    assert_eq!(assert_fresh(pinning), (None, 0));
    let (programs, maps) = (bpffs.programs().unwrap(), bpffs.maps().unwrap());
    assert!(!programs.is_empty() && !maps.is_empty());
    first.kernel.track(source).unwrap();
    let (client, server) = connected(&pod.namespace, "127.0.0.1");
    let established = |half: &mut Half| {
        let records = half.drain(source);
        let mut kinds = records.iter().map(|record| record.kind);
        kinds.any(|kind| kind == RecordKind::Established as u8)
    };
    wait::until("connection", PATIENCE, || {
        Ok(established(&mut first).then_some(()))
    })
    .unwrap();
    let before = leaves(&first, source, Ends::default());
    // As a SIGKILL leaves it: closed, and nothing said.
    drop(first);
    assert_eq!(bpffs.programs().unwrap(), programs);

    // Nobody reads, and nobody is there to track it.
    let earliest = statlink::clock::now();
    set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
    drop(server);
    let latest = statlink::clock::now();

    let (mut second, pinning) = load(&bpffs.pins(), &before);
    assert!(matches!(pinning, Pinning::Adopted), "{pinning:?}");
    assert_eq!(bpffs.programs().unwrap(), programs);
    assert_eq!(bpffs.maps().unwrap(), maps);
    second.kernel.track(source).unwrap();
    let ended = second.end(source);
    assert_eq!(End::from_raw(ended.end), Some(End::Reset));
    assert_eq!(ended.errno, 104);
    let at = statlink::time::Timestamp::from_nanos(ended.time_ns);
    assert!(
        earliest <= at && at <= latest,
        "{earliest:?} {at:?} {latest:?}"
    );
    // What is loaded anew works on the same maps.
    let totals = second.kernel.source_totals(source).unwrap();
    assert_eq!(crate::half::sum(&totals.missed), 0);
    let (again, server) = connected(&pod.namespace, "127.0.0.1");
    drop(again);
    assert_eq!(
        End::from_raw(second.end(source).end),
        Some(End::LocalClosed)
    );
    drop((client, server));
}

#[test]
fn each_end_is_told_once_whatever_a_predecessor_had_read_or_the_ring_had_no_room_for() {
    let bpffs = bpffs();
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let source = this_process(&pod.namespace);
    let refuse = |dials: u32| {
        let address = ("127.0.0.1", statlink_tests::peer::PORT);
        let dial = move |_: &u32| std::net::TcpStream::connect(address).is_err();
        let refused = pod.namespace.run(move || (0..dials).filter(dial).count());
        assert_eq!(refused.unwrap(), dials as usize);
    };
    let refused = |number| ends(Phase::Connecting, End::Refused, number);
    let recorded = |half: &mut Half| {
        let records = half.drain(source).into_iter();
        let ended = records.filter(|it| it.kind == RecordKind::Ended as u8);
        u32::try_from(ended.count()).unwrap()
    };
    let missed = |half: &mut Half| {
        let missed = half.kernel.source_totals(source).unwrap().missed;
        assert_eq!(missed, refused(crate::half::sum(&missed)));
        crate::half::sum(&missed)
    };

    let (mut first, _) = load(&bpffs.pins(), &Before::default());
    first.kernel.track(source).unwrap();
    refuse(5);
    assert_eq!(recorded(&mut first), 5);
    // It died before it told the last two.
    let before = leaves(&first, source, refused(3));
    drop(first);
    // Three records each: the ring holds 1,638.
    refuse(1_000);

    let (mut second, pinning) = load(&bpffs.pins(), &before);
    assert!(matches!(pinning, Pinning::Adopted), "{pinning:?}");
    assert!(missed(&mut second) > 2, "the ring was large enough");
    second.kernel.track(source).unwrap();
    let told = missed(&mut second) + recorded(&mut second);
    assert_eq!(told, 1_002);
    refuse(1);
    assert_eq!(recorded(&mut second), 1);
    // It told all but what it read last.
    let before = leaves(&second, source, refused(told));
    drop(second);

    let (mut third, _) = load(&bpffs.pins(), &before);
    assert_eq!((missed(&mut third), recorded(&mut third)), (1, 0));
    drop(third);

    // Its client is found late: what is read until then it is told as missed, and nothing twice.
    refuse(2);
    let (mut fourth, _) = load(&bpffs.pins(), &before);
    assert_eq!((missed(&mut fourth), recorded(&mut fourth)), (1, 2));
    assert_eq!(missed(&mut fourth), 3);
    fourth.kernel.track(source).unwrap();
    refuse(1);
    assert_eq!((missed(&mut fourth), recorded(&mut fourth)), (3, 1));
    let before = leaves(&fourth, source, refused(4));
    drop(fourth);
    let (mut fifth, _) = load(&bpffs.pins(), &before);
    assert_eq!((missed(&mut fifth), recorded(&mut fifth)), (0, 0));
}

#[test]
fn what_is_torn_or_somebody_elses_is_replaced() {
    let bpffs = bpffs();
    let pin = |name: &str| bpffs.format().unwrap().unwrap().join(name);
    let start = |before: &Before| {
        let (half, pinning) = load(&bpffs.pins(), before);
        (leaves_nothing(&half), assert_fresh(pinning))
    };
    let (before, _) = start(&Before::default());

    let programs = bpffs.programs().unwrap();
    fs::remove_file(pin("link_inet_sock_set_state")).unwrap();
    let (before, (unfit, removed)) = start(&before);
    let half = Unfit::Half("inet_sock_set_state".to_owned());
    assert_eq!((unfit, removed), (Some(half), 1));
    assert_ne!(bpffs.programs().unwrap(), programs);

    fs::remove_file(pin("map_SOURCES")).unwrap();
    let other: HashMap<MapData, u32, u32> = HashMap::create(8, 0).unwrap();
    other.pin(pin("map_SOURCES")).unwrap();
    let (before, (unfit, _)) = start(&before);
    let what = matches!(
        unfit,
        Some(Unfit::OtherMap {
            what: "key size",
            ..
        })
    );
    assert!(what, "{unfit:?}");

    fs::rename(pin("prog_tcp_destroy_sock"), pin("prog_tcp_retransmit_skb")).unwrap();
    let (_, (unfit, _)) = start(&before);
    assert!(unfit.is_some());

    // Of this one nobody left a word.
    let (before, (unfit, _)) = start(&before);
    assert_eq!(unfit, Some(Unfit::ToldByOthers));

    // Died over it: what it had pinned so far is nobody's.
    fs::rename(
        bpffs.format().unwrap().unwrap(),
        bpffs.pins().join("v1-new"),
    )
    .unwrap();
    let (before, found) = start(&before);
    assert_eq!(found, (None, 0));
    let (_, pinning) = load(&bpffs.pins(), &before);
    assert!(matches!(pinning, Pinning::Adopted), "{pinning:?}");
}

#[test]
fn another_format_is_removed_once_the_successors_own_is_in_place() {
    let bpffs = bpffs();
    let (first, _) = load(&bpffs.pins(), &Before::default());
    let programs = bpffs.programs().unwrap();
    let before = leaves_nothing(&first);
    drop(first);
    // Another port stands for another build: both are another name.
    let (second, pinning) = load_for(&bpffs.pins(), 18_080, &before);
    assert_eq!(assert_fresh(pinning), (None, 1));
    drop(second);
    wait_gone(&programs, &[]);
    // And back again.
    let programs = bpffs.programs().unwrap();
    let (third, pinning) = load(&bpffs.pins(), &before);
    assert_eq!(assert_fresh(pinning), (None, 1));
    drop(third);
    wait_gone(&programs, &[]);
}

#[test]
fn of_two_at_once_one_owns_the_pins_and_the_other_does_without() {
    let bpffs = bpffs();
    let (first, _) = load(&bpffs.pins(), &Before::default());
    let programs = bpffs.programs().unwrap();
    let before = leaves_nothing(&first);
    let (second, pinning) = load(&bpffs.pins(), &before);
    let owned = matches!(pinning, Pinning::Without(PinsError::Owned(_)));
    assert!(owned, "{pinning:?}");
    assert!(second.kernel.hooked("inet_sock_set_state"));
    assert_eq!(bpffs.programs().unwrap(), programs);
    drop(first);
    drop(second);
    let (_, pinning) = load(&bpffs.pins(), &before);
    assert!(matches!(pinning, Pinning::Adopted), "{pinning:?}");
}

#[test]
fn without_a_bpffs_it_does_without() {
    let directory = tempfile::tempdir().unwrap();
    let (half, pinning) = load(&directory.path().join("statlink"), &Before::default());
    let without = matches!(pinning, Pinning::Without(PinsError::NotBpffs(_)));
    assert!(without, "{pinning:?}");
    assert!(half.kernel.hooked("inet_sock_set_state"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn trying_whether_it_can_pin_leaves_nothing() {
    let bpffs = bpffs();
    // A bpffs has two files of its own.
    let of_kernel = fs::read_dir(bpffs.root()).unwrap().count();
    try_to_pin_in(&bpffs.pins()).unwrap();
    assert_eq!(fs::read_dir(bpffs.root()).unwrap().count(), of_kernel);
    fs::create_dir(bpffs.pins()).unwrap();
    try_to_pin_in(&bpffs.pins()).unwrap();
    assert_eq!(fs::read_dir(bpffs.pins()).unwrap().count(), 0);
    // As what confines a container refuses it.
    rustix::mount::mount_remount(bpffs.root(), rustix::mount::MountFlags::RDONLY, "").unwrap();
    let refused = try_to_pin_in(&bpffs.pins());
    assert!(matches!(refused, Err(PinsError::Io { .. })), "{refused:?}");
}

#[test]
fn uninstall_leaves_nothing_and_takes_nothing_of_others() {
    let bpffs = bpffs();
    assert_eq!(uninstall(&bpffs.pins()).unwrap().formats, []);
    let (half, _) = load(&bpffs.pins(), &Before::default());
    let (programs, maps) = (bpffs.programs().unwrap(), bpffs.maps().unwrap());
    let other = bpffs.pins().join("others");
    let map: HashMap<MapData, u32, u32> = HashMap::create(8, 0).unwrap();
    map.pin(&other).unwrap();

    // While one runs: it goes on, and what it has attached ends with it.
    let removed = uninstall(&bpffs.pins()).unwrap();
    assert_eq!(removed.formats.len(), 1);
    assert!(!removed.directory && other.exists());
    let are_loaded = |ids: &[u32]| loaded_ids(ids).len() == ids.len();
    assert!(are_loaded(&programs));
    drop(half);
    wait_gone(&programs, &maps);

    fs::remove_file(other).unwrap();
    assert!(uninstall(&bpffs.pins()).unwrap().directory);
    assert!(!bpffs.pins().exists());
    let again = uninstall(&bpffs.pins()).unwrap();
    assert!(again.formats.is_empty() && !again.directory);
}

/// The kernel lets go of programs a moment after their last link.
#[track_caller]
fn wait_gone(programs: &[u32], maps: &[u32]) {
    wait::until("end of programs and maps", PATIENCE, || {
        let gone = loaded_ids(programs).is_empty() && loaded_map_ids(maps).is_empty();
        Ok(gone.then_some(()))
    })
    .unwrap();
}

fn loaded_ids(among: &[u32]) -> Vec<u32> {
    let loaded = loaded_programs().flatten().map(|program| program.id());
    loaded.filter(|id| among.contains(id)).collect()
}

fn loaded_map_ids(among: &[u32]) -> Vec<u32> {
    let loaded = loaded_maps().flatten().map(|map| map.id());
    loaded.filter(|id| among.contains(id)).collect()
}

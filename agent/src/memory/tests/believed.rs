//! Tests: which files are believed.

use proptest::prelude::*;

use super::*;

#[test]
fn what_this_build_does_not_understand_is_refused_as_a_whole() {
    let file = String::from_utf8(file_of(&[pod("a", 1)], &[])).unwrap();
    let (first, body) = file.split_once('\n').unwrap();
    let of_tomorrow = first.replacen(" 1 ", " 2 ", 1) + "\n" + body;
    let decoded = format::decode(of_tomorrow.as_bytes(), BOOT);
    assert_eq!(decoded, Err(Refusal::OtherFormat(2)));
    // Fields that a later build adds, anywhere.
    for field in [
        "\"uid\":",
        "\"id\":",
        "\"checks\":",
        "\"was_reachable\":",
        "\"since\":",
        "\"ended\":",
        "\"lives\":1,\"at\":",
    ] {
        let file = file_of(&[pod("a", 1)], &[told("a", Some(1))]);
        let file = String::from_utf8(file).unwrap();
        let (_, body) = file.split_once('\n').unwrap();
        assert!(body.contains(field), "{field}: {body}");
        let more = body.replacen(field, &format!("\"of_tomorrow\":1,{field}"), 1);
        let (_, lines) = more.split_once('\n').unwrap();
        let decoded = format::decode(&file_with([lines]), BOOT);
        assert!(
            matches!(decoded, Err(Refusal::NotUnderstood(_))),
            "{field}: {decoded:?}"
        );
    }
    let unknown = file_with(["{\"pod\":{\"cause\":\"of_tomorrow\"}}\n"]);
    let decoded = format::decode(&unknown, BOOT);
    assert!(
        matches!(decoded, Err(Refusal::NotUnderstood(_))),
        "{decoded:?}"
    );
}

#[test]
fn a_file_that_was_cut_anywhere_is_not_believed() {
    let file = file_of(&[pod("a", 1), pod("b", 2)], &[told("a", None)]);
    assert!(format::decode(&file, BOOT).is_ok());
    for length in 0..file.len() {
        let cut = format::decode(&file[..length], BOOT);
        assert!(cut.is_err(), "{length} of {} bytes: {cut:?}", file.len());
    }
}

/// A line that a build may have written, or one with some of its characters replaced.
fn line() -> impl Strategy<Value = String> {
    let right = any::<u32>().prop_map(|errors| format::line_of_pod(&pod("a", errors.into())));
    let replaced = (right.clone(), any::<prop::sample::Index>(), "[ -~]{0,3}");
    let replaced = replaced.prop_map(|(line, at, by)| {
        // The line keeps its newline.
        let at = at.index(line.len() - 1);
        format!("{}{by}{}", &line[..at], &line[at + 1..])
    });
    prop_oneof![right, replaced, "[ -~]{0,40}\n"]
}

proptest! {
    /// In the page cache, each page may be of the old write or of the new one; here each byte may.
    #[test]
    fn a_file_of_two_writings_is_not_believed(
        errors in 1_u64..1_000_000,
        more in 1_u64..1_000,
        cut in 0.0..1.0_f64,
    ) {
        let old = file_of(&[pod("a", errors), pod("b", errors)], &[told("a", None)]);
        let new = file_of(&[pod("a", errors + more), pod("b", errors)], &[told("a", Some(1))]);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a file")]
        let at = (cut * old.len().min(new.len()) as f64) as usize;
        let torn = [&new[..at], &old[at..]].concat();
        let decoded = format::decode(&torn, BOOT);
        prop_assert!(torn == old || torn == new || decoded.is_err(), "{decoded:?}");
    }

    #[test]
    fn a_byte_that_is_not_what_was_written_is_noticed(
        errors in any::<u64>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let file = file_of(&[pod("a", errors / 2)], &[told("a", None)]);
        let mut other = file.clone();
        let at = at.index(file.len());
        other[at] = byte;
        let decoded = format::decode(&other, BOOT);
        // The first line may be spelled differently and mean the same, such as a length with a
        // sign.
        let first = file.iter().position(|byte| *byte == b'\n').unwrap();
        prop_assert!(other == file || at < first || decoded.is_err(), "{decoded:?}");
        if let Ok(decoded) = decoded {
            prop_assert_eq!(Ok(decoded), format::decode(&file, BOOT));
        }
    }

    /// The first line is right here.
    #[test]
    fn whatever_is_in_the_file_is_refused_or_read(lines in prop::collection::vec(line(), 0..5)) {
        let file = file_with(lines.iter().map(String::as_str));
        if let Ok(left) = format::decode(&file, BOOT) {
            // Writing what was read gives the same again.
            let again = file_of(&left.pods, &left.told);
            prop_assert_eq!(format::decode(&again, BOOT), Ok(left));
        }
    }

    #[test]
    fn whatever_is_not_a_file_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(format::decode(&bytes, BOOT).is_err());
    }
}

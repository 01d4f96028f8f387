//! Where a process's memory could get to.

use super::{check::Finding, forwarder::is_zero, process::Process};

/// Judges whether memory could get to swap, into a dump, or be written and then run.
pub(super) fn judge_memory(smaps: &str, finding: &mut Finding) {
    let (mut writable, mut loose, mut executable) = (0, Vec::new(), Vec::new());
    for piece in pieces(smaps) {
        let has = |flag: &str| piece.flags.split_whitespace().any(|other| other == flag);
        if has("wr") && has("ex") {
            executable.push(piece.place);
        }
        writable += usize::from(has("wr"));
        if has("wr") && !(has("lo") && has("dd")) {
            loose.push(piece.place);
        }
    }
    finding.expect(writable > 0 && loose.is_empty(), match loose.first() {
        None => format!("all {writable} writable pieces of memory are locked (lo) and left out of dumps (dd)"),
        Some(place) => format!("{} of {writable} writable pieces of memory are not locked (lo) or not left out of dumps (dd), the first at {place}", loose.len()),
    });
    finding.expect(
        executable.is_empty(),
        match executable.first() {
            None => "no piece of memory is writable and executable at once".into(),
            Some(place) => format!(
                "{} pieces of memory are writable and executable at once, the first at {place}",
                executable.len()
            ),
        },
    );
}

/// A piece of memory.
struct Piece<'a> {
    place: &'a str,
    flags: &'a str,
}

/// The pieces of memory in a `smaps`.
fn pieces(smaps: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut place = "";
    smaps.lines().filter_map(move |line| {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            return Some(Piece { place, flags });
        }
        let first = line.split_whitespace().next()?;
        if first.contains('-') {
            place = first;
        }
        None
    })
}

/// Judges whether a core dump would hold memory of the process.
pub(super) fn judge_dumps(process: &Process, finding: &mut Finding) {
    // Root's files belong to root in any case; there the filter alone tells.
    if process.is_roots() != Some(true) {
        judge_owner(process, finding);
    }
    match &process.dump_filter {
        Ok(filter) => {
            let filter = filter.trim();
            finding.expect(is_zero(&[filter]), format!("coredump_filter: {filter}"))
        }
        Err(unread) => finding.warn(unread.to_string()),
    };
}

/// Judges whether memory of a process that is not root's may be dumped.
fn judge_owner(process: &Process, finding: &mut Finding) {
    match &process.files_owner {
        Ok(0) => finding
            .pass("its files in /proc belong to root, as those of a process that is not dumpable"),
        Ok(owner) => {
            finding.fail(format!("it is dumpable: its files in /proc belong to user {owner}"))
        }
        Err(unread) => finding.fail(unread.to_string()),
    };
}

#[cfg(test)]
mod tests {
    use tacit_forwarder::seal::USER;

    use super::{super::check::Verdict, *};

    const SMAPS: &str = "55d0c4a00000-55d0c4b00000 r-xp 00000000 fe:00 11 /usr/bin/tacit\n\
        Size:               1024 kB\nVmFlags: rd ex mr mw me lo \n\
        55d0c5000000-55d0d5000000 rw-p 00000000 00:00 0 [heap]\n\
        Size:             262144 kB\nVmFlags: rd wr mr mw me lo ac dd \n";

    #[test]
    fn memory_that_could_be_swapped_dumped_or_both_written_and_run_is_a_violation() {
        let judged = |smaps: &str| {
            let mut finding = Finding::default();
            judge_memory(smaps, &mut finding);
            finding
        };
        assert_eq!(judged(SMAPS).verdict(), Verdict::Pass);
        for (is, planted) in [
            ("me lo ac dd", "me ac dd"),
            ("me lo ac dd", "me lo ac"),
            ("rd wr mr mw me lo ac dd", "rd wr ex mr mw me lo ac dd"),
        ] {
            let finding = judged(&SMAPS.replace(is, planted));
            assert_eq!(finding.texts(Verdict::Fail).len(), 1, "{planted}");
            assert!(finding.texts(Verdict::Fail)[0].contains("55d0c5000000"), "{planted}");
        }
        assert_eq!(judged("").verdict(), Verdict::Fail, "nothing shown is nothing proven");
    }

    #[test]
    fn dump_with_memory_is_a_violation() {
        let judged = |process: &Process| {
            let mut finding = Finding::default();
            judge_dumps(process, &mut finding);
            finding.verdict()
        };
        let sealed = Process::sealed(USER, 0);
        assert_eq!(judged(&sealed), Verdict::Pass);
        assert_eq!(judged(&Process::sealed(USER, USER)), Verdict::Fail);
        assert_eq!(judged(&Process { dump_filter: Ok("33".into()), ..sealed }), Verdict::Fail);
    }
}

//! What one version of the rules changes in another.

use similar::{Algorithm, ChangeTag, TextDiff};

use super::{RulesText, Summary};

/// A line of two versions, and in which of them it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// In both.
    Kept(String),
    /// In the former alone.
    Removed(String),
    /// In the new one alone.
    Added(String),
}

/// Compares two versions line by line.
#[must_use]
pub fn compare(former: &RulesText, new: &RulesText) -> Vec<Change> {
    let mut difference = TextDiff::configure();
    difference.algorithm(Algorithm::Patience);
    let difference = difference.diff_lines(former.as_str(), new.as_str());
    let changes = difference.iter_all_changes().map(|change| {
        let line = change.value().trim_end_matches('\n').to_owned();
        match change.tag() {
            ChangeTag::Equal => Change::Kept(line),
            ChangeTag::Delete => Change::Removed(line),
            ChangeTag::Insert => Change::Added(line),
        }
    });
    changes.collect()
}

/// Says which sections a version changes.
#[must_use]
pub fn summary(former: &RulesText, new: &RulesText) -> Summary {
    let mut sections: Vec<(String, &'static str)> = Vec::new();
    let mut note = |heading: &str, what| {
        if !sections.iter().any(|(noted, _)| noted == heading) {
            sections.push((heading.to_owned(), what));
        }
    };
    let mut heading = String::from("introduction");
    for change in compare(former, new) {
        let (line, what) = match &change {
            Change::Kept(line) => (line, None),
            Change::Removed(line) => (line, Some("removed")),
            Change::Added(line) => (line, Some("new")),
        };
        match (heading_of(line), what) {
            (Some(title), None) => heading = title.to_owned(),
            (Some(title), Some(what)) => {
                heading = title.to_owned();
                note(title, what);
            }
            (None, Some(_)) if !line.trim().is_empty() => note(&heading, "changed"),
            (None, _) => {}
        }
    }
    if sections.is_empty() {
        return Summary::made("The words are the same.");
    }
    let listed = ["changed", "new", "removed"].into_iter().filter_map(|what| {
        let titles = sections.iter().filter(|(_, is)| *is == what).map(|(title, _)| title.as_str());
        let titles: Vec<_> = titles.collect();
        (!titles.is_empty()).then(|| format!("{what}: {}", titles.join("; ")))
    });
    let listed: Vec<_> = listed.collect();
    Summary::made(&format!("Sections {}.", listed.join(". Sections ")))
}

/// The words of a line that begins a section.
fn heading_of(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    (title.len() < line.len() && title.starts_with(' ')).then(|| title.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> RulesText {
        RulesText::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn comparison_gives_both_versions_back() {
        let (former, new) = (text("a\nb\nc\n"), text("a\nB\nc\nd\n"));
        let changes = compare(&former, &new);
        let pick = |of_new: bool| -> String {
            let lines = changes.iter().filter_map(|change| match change {
                Change::Kept(line) => Some(line),
                Change::Removed(line) => (!of_new).then_some(line),
                Change::Added(line) => of_new.then_some(line),
            });
            lines.map(|line| format!("{line}\n")).collect()
        };
        assert_eq!((pick(false), pick(true)), (former.as_str().into(), new.as_str().into()));
        assert!(
            changes.contains(&Change::Removed("b".into()))
                && changes.contains(&Change::Added("d".into()))
        );
    }

    #[test]
    fn summary_names_changed_new_and_removed_sections() {
        let former = text("# Rules\n\n## 1. Data\nWe keep it.\n## 2. Old\nx\n## 3. Same\ny\n");
        let new = text("# Rules\n\n## 1. Data\nWe keep less.\n## 3. Same\ny\n## 4. Fresh\nz\n");
        assert_eq!(
            summary(&former, &new).as_str(),
            "Sections changed: 1. Data. Sections new: 4. Fresh. Sections removed: 2. Old."
        );
        assert_eq!(summary(&former, &former).as_str(), "The words are the same.");
    }
}
